"""Pictures for the galleries: read again from the data by key, made small, and put into the page itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from diptych.core.errors import DiptychError
from diptych.core.processor import BadSample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.open import open_source
from diptych.data.pixels.thumbnail import thumbnail


@dataclass
class Album:
    """Thumbnails of one set of data, made when first asked for.

    Attributes:
        reference, split: the data, as the result names them.
        problem: why there are no pictures, as a sentence; empty while all is well.
    """

    reference: str
    split: str
    problem: str = ""
    _source: Source | None = None
    _positions: dict[str, int] = field(default_factory=dict)
    _made: dict[str, str] = field(default_factory=dict)

    def open(self, keys: Iterable[str]) -> None:
        """Finds where the pictures of these keys are; a source that is gone is a `problem`, not an error."""
        wanted = set(keys)
        try:
            self._source = open_source(self.reference, self.split)
        except DiptychError as error:
            self.problem = str(error)
            return
        self._positions = {key: i for i, key in enumerate(self._source.keys()) if key in wanted}

    def uri(self, key: str) -> str:
        """The thumbnail of a key as a `data:` address; "" where the picture is not there or cannot be read."""
        if key not in self._made:
            self._made[key] = self._make(key)
        return self._made[key]

    def _make(self, key: str) -> str:
        if self._source is None or key not in self._positions:
            return ""
        try:
            visual = self._source[self._positions[key]].visuals[0]
            return thumbnail(visual, key) if isinstance(visual, Image) else ""
        except BadSample:
            return ""
