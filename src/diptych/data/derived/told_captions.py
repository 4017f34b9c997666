"""Words alone, as a language model meets them that will be told about pictures: captions, and questions about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.sample import Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source


@dataclass(frozen=True)
class ToldCaptions:
    """A source of which only words are left: of four samples with a conversation one says its caption when asked for
    it, two tell it before the first question, and one is asked without it.

    What it learns of them is to look back for what was told, which is all that a soft prompt can use.

    Attributes:
        whole: the source; samples without a caption or a conversation keep their words as they are.
        prompt: what asks for a caption.
    """

    whole: Source
    prompt: str

    @property
    def name(self) -> str:
        return f"{self.whole.name}, words alone, captions told"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        sample = replace(self.whole[index], visuals=(), boxes=())
        if not (sample.texts and sample.turns):
            return sample
        kind, caption, (first, *rest) = hash_to_int("told", sample.key) % 4, sample.texts[0], sample.turns
        if kind == 0:
            return replace(sample, turns=(Turn("user", self.prompt), Turn("assistant", caption)))
        if kind < 3:
            return replace(sample, turns=(replace(first, text=f"{caption}\n{first.text}"), *rest))
        return sample

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'captions told', self.prompt):016x}"
