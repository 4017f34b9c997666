"""Interleaved documents as something that is said: what a model of conversations learns of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.core.visual import Clip, Visual
from diptych.data.words.chat import IMAGE


@dataclass(frozen=True)
class ToldDocuments:
    """Each document as one answer to no question, its pictures at their places; every word of it is learned.

    Pictures move before the text that they follow, so that what is said of them can be read off them: in
    web documents either order is found, and a picture that only ever comes after its text teaches nobody to look.

    Attributes:
        whole: a source of documents.
    """

    whole: Source

    @property
    def name(self) -> str:
        return f"{self.whole.name}, told"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        """
        Raises:
            BadSample: the sample is no document, or has a clip.
        """
        sample = self.whole[index]
        if not sample.parts:
            raise BadSample(sample.key, "no document", "it has no parts")
        if any(isinstance(part, Clip) for part in sample.parts):
            raise BadSample(sample.key, "a clip in a document")
        parts = pictures_first(sample.parts)
        said = " ".join(part if isinstance(part, str) else IMAGE for part in parts)
        pictures = tuple(part for part in parts if not isinstance(part, str))
        return replace(sample, visuals=pictures, parts=(), turns=(Turn("user", ""), Turn("assistant", said)))

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'told documents'):016x}"


def pictures_first(parts: Sequence[str | Visual]) -> list[str | Visual]:
    """Pictures that follow a text, before that text."""
    found: list[str | Visual] = []
    for part in parts:
        if isinstance(part, str) or not found or not isinstance(found[-1], str):
            found.append(part)
        else:
            found.insert(len(found) - 1, part)
    return found
