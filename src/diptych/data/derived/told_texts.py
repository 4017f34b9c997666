"""Captions without their pictures, as something that is said: what a model of conversations learns of text alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source


@dataclass(frozen=True)
class ToldTexts:
    """Each first caption as an answer to no question, so that nothing is taught about pictures that are not shown.

    Attributes:
        whole: a source of captions.
    """

    whole: Source

    @property
    def name(self) -> str:
        return f"{self.whole.name}, text alone"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        """
        Raises:
            BadSample: the sample has no caption.
        """
        sample = self.whole[index]
        if not sample.texts:
            raise BadSample(sample.key, "no caption", "it has no texts")
        turns = (Turn("user", ""), Turn("assistant", sample.texts[0]))
        return replace(sample, visuals=(), boxes=(), turns=turns)

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'told texts'):016x}"
