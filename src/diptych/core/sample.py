"""The unit that travels from a source to an evaluation record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.core.visual import Image, Visual

Json = Any
"""A JSON value: string, number, boolean, null, list or string-keyed dict."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation about the sample's visuals."""

    role: Literal["user", "assistant", "system"]
    text: str


@dataclass(frozen=True, slots=True)
class Box:
    """A region: pixel corners (x0, y0) inclusive to (x1, y1) exclusive, and what is there."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One record of data, whatever the task makes of it.

    Attributes:
        key: stable from the first read to the last evaluation record.
        visuals: pictures or clips.
        texts: captions, all of them true of the first visual.
        turns: a conversation.
        boxes: regions of the first visual.
        parts: an interleaved document, texts and visuals in order.
        meta: anything else: class name, negatives, url. JSON values.
    """

    key: str
    visuals: tuple[Visual, ...] = ()
    texts: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    boxes: tuple[Box, ...] = ()
    parts: tuple[str | Visual, ...] = ()
    meta: Mapping[str, Json] = field(default_factory=dict)

    @property
    def image(self) -> Image:
        """The first visual, which must be a picture."""
        visual = self.visuals[0]
        assert isinstance(visual, Image), f"{self.key}: the first visual is a clip"
        return visual
