"""Samples without their conversations: a picture and its captions, which a prompt asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source


@dataclass(frozen=True)
class CaptionsOnly:
    """A source of which only pictures and captions are left.

    Attributes:
        whole: the source.
    """

    whole: Source

    @property
    def name(self) -> str:
        return f"{self.whole.name}, captions alone"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.whole[index], turns=())

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'captions alone'):016x}"
