"""Words alone: one caption of a picture told, and another one asked for, as if the first were the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.sample import Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source


@dataclass(frozen=True)
class CaptionsRetold:
    """A source of which only captions are left: the first is told, any of them is said.

    A language model that has read this can say of what it is told what it would say of a picture, which is all that
    vectors in the place of a picture can ask of it.

    Attributes:
        whole: the source; samples without captions keep their words as they are.
    """

    whole: Source

    @property
    def name(self) -> str:
        return f"{self.whole.name}, captions retold"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        sample = replace(self.whole[index], visuals=(), boxes=())
        texts = [text for text in sample.texts if text.strip()]
        if not texts:
            return sample
        said = texts[hash_to_int("retold", sample.key) % len(texts)]
        return replace(sample, turns=(Turn("user", texts[0]), Turn("assistant", said)))

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'captions retold'):016x}"
