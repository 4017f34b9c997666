"""Rows of pictures that belong together: a picture, what was hidden of it, and what a model filled in.

A result's `extras["pictures"]` is a list of
    {"key": the sample's, "caption": a text, "images": [{"title": a text, "png": a `data:` address}, ...]}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diptych.core.records.results import Result

MOST = 12
_SAFE = "data:image/png;base64,"


@dataclass(frozen=True)
class Picture:
    """One picture of a row, with what it is."""

    title: str
    address: str


@dataclass(frozen=True)
class PictureRow:
    """The pictures of one sample."""

    key: str
    pictures: list[Picture]


def picture_rows(result: Result) -> list[PictureRow]:
    """The rows of a result; none where it has none. An address that is no picture is left out of the page."""
    rows = [picture_row(row) for row in result.extras.get("pictures") or []]
    return [row for row in rows if row.pictures][:MOST]


def picture_row(plain: dict[str, Any]) -> PictureRow:
    """One row, without addresses that are no pictures."""
    return PictureRow(
        str(plain["key"]), [_picture(one) for one in plain["images"] if str(one["png"]).startswith(_SAFE)]
    )


def _picture(plain: dict[str, str]) -> Picture:
    return Picture(str(plain["title"]), str(plain["png"]))
