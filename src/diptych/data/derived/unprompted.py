"""Captions and documents as conversations with an empty question: plain text for models of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.visual import Clip, Visual
from diptych.data.derived.mapped import Mapped
from diptych.data.words.chat import IMAGE


@dataclass(frozen=True)
class UnpromptedCaptions(Mapped):
    """The first caption as the answer, without its picture, so that nothing is taught about what is not shown."""

    CHANGE = "captions without a prompt"

    def change(self, sample: Sample) -> Sample:
        """Raises BadSample where there is no caption."""
        if not sample.texts:
            raise BadSample(sample.key, "no caption", "it has no texts")
        turns = (Turn("user", ""), Turn("assistant", sample.texts[0]))
        return replace(sample, visuals=(), boxes=(), turns=turns)


@dataclass(frozen=True)
class UnpromptedDocuments(Mapped):
    """A whole document as the answer, its pictures at their places; every word of it is learned.

    A picture moves before the text that it follows, so that the text can be read off it: web documents have either
    order, and a picture that comes only after its text teaches nobody to look.
    """

    CHANGE = "documents without a prompt"

    def change(self, sample: Sample) -> Sample:
        """Raises BadSample where there is no document, or one with a clip."""
        if not sample.parts:
            raise BadSample(sample.key, "no document", "it has no parts")
        if any(isinstance(part, Clip) for part in sample.parts):
            raise BadSample(sample.key, "a clip in a document")
        parts = pictures_first(sample.parts)
        text = " ".join(part if isinstance(part, str) else IMAGE for part in parts)
        pictures = tuple(part for part in parts if not isinstance(part, str))
        return replace(sample, visuals=pictures, parts=(), turns=(Turn("user", ""), Turn("assistant", text)))


def pictures_first(parts: Sequence[str | Visual]) -> list[str | Visual]:
    """Pictures that follow a text, before that text."""
    found: list[str | Visual] = []
    for part in parts:
        if isinstance(part, str) or not found or not isinstance(found[-1], str):
            found.append(part)
        else:
            found.insert(len(found) - 1, part)
    return found
