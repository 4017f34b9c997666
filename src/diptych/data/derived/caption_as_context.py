"""Conversations without pictures: a caption stands before the first question, where the picture was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.sample import Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.data.derived.mapped import Mapped


@dataclass(frozen=True)
class CaptionAsContext(Mapped):
    """What a language model reads before its first pictures: captions, and questions about them.

    Of four samples with a caption and a conversation one answers `prompt` with its caption, two have the caption before
    their first question, and one is asked without it. So the model learns to answer from what stands before a question,
    which is all that a soft prompt can use. Other samples only lose their pictures.

    Attributes:
        prompt: what asks for a caption.
    """

    CHANGE = "captions as context"
    prompt: str

    def change(self, sample: Sample) -> Sample:
        sample = replace(sample, visuals=(), boxes=())
        if not (sample.texts and sample.turns):
            return sample
        kind, caption, (first, *rest) = hash_to_int("told", sample.key) % 4, sample.texts[0], sample.turns
        if kind == 0:
            return replace(sample, turns=(Turn("user", self.prompt), Turn("assistant", caption)))
        if kind < 3:
            return replace(sample, turns=(replace(first, text=f"{caption}\n{first.text}"), *rest))
        return sample

    def settings(self) -> Sequence[str]:
        return (self.prompt,)
