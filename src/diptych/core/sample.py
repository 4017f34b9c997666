"""The unit that travels from a source to an evaluation record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from diptych.core.visual import Box, Image, Visual

__all__ = ["Box", "Json", "Sample", "Turn"]

Json = Any
"""A JSON value: string, number, boolean, null, list or string-keyed dict."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation about the sample's visuals."""

    role: Literal["user", "assistant", "system"]
    text: str


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
        """The first visual, which must be a picture, with the boxes that are known of it."""
        visual = self.visuals[0]
        assert isinstance(visual, Image), f"{self.key}: the first visual is a clip"
        return replace(visual, boxes=self.boxes) if self.boxes else visual
