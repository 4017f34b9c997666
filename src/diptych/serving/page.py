"""A self-contained page of pictures with what was said of them: no network, no script, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jinja2
from markupsafe import Markup

from diptych import __version__
from diptych.core.storage import write_text
from diptych.serving.job import Skipped
from diptych.serving.output import printable

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Card:
    """One picture.

    Attributes:
        thumbnail: a `data:` address.
        said: what stands first below it; `more` stands smaller.
        address: of the picture itself, which a click opens; "" for none.
    """

    name: str
    thumbnail: str
    said: str
    more: str = ""
    address: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures that belong together; without a name there are no others."""

    name: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Page:
    """What stands on it.

    Attributes:
        facts: names and values.
        picture: a `data:` address of what was asked for, where that is a picture.
    """

    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    groups: Sequence[Group]
    skipped: Sequence[Skipped] = ()
    picture: str = ""


def write_page(page: Page, path: Path) -> None:
    """Writes the page in place of what stood there.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["printable"] = printable
    css = Markup((_TEMPLATES / "gallery.css").read_text(encoding="utf-8"))
    written = datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z")
    template = environment.get_template("gallery.html")
    write_text(path, template.render(page=page, css=css, version=__version__, written=written))
