"""Samples without their pictures: what a language model is trained on before it sees any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source


@dataclass(frozen=True)
class TextOnly:
    """A source of which only words are left.

    Attributes:
        whole: the source.
    """

    whole: Source

    @property
    def name(self) -> str:
        return f"{self.whole.name}, words alone"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.whole[index], visuals=(), boxes=())

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'words alone'):016x}"
