"""Captions said in a row, for models of text alone: what is said twice is what one sentence tells about the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source


@dataclass(frozen=True)
class Retold:
    """A source each of whose texts is a caption and the sample's next one; a lone caption stays as it is.

    Attributes:
        whole: the source.
    """

    whole: Source

    @property
    def name(self) -> str:
        return f"{self.whole.name}, said twice"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        sample = self.whole[index]
        said = [text.strip().rstrip(".") for text in sample.texts if text.strip()]
        if len(said) < 2:
            return sample
        return replace(
            sample, texts=tuple(f"{one}. {two}." for one, two in zip(said, [*said[1:], said[0]], strict=True))
        )

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'said twice'):016x}"
