"""Sources with a part of every sample left out: its pictures, its captions, or its conversation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.core.sample import Sample
from diptych.data.derived.mapped import Mapped


@dataclass(frozen=True)
class WithoutPictures(Mapped):
    """Words alone: what language models are trained on, and what text-only rows are made of."""

    CHANGE = "without pictures"

    def change(self, sample: Sample) -> Sample:
        return replace(sample, visuals=(), boxes=())


@dataclass(frozen=True)
class WithoutCaptions(Mapped):
    """Pictures without their texts: what picture-only rows are made of."""

    CHANGE = "without captions"

    def change(self, sample: Sample) -> Sample:
        return replace(sample, texts=())


@dataclass(frozen=True)
class WithoutTurns(Mapped):
    """Pictures with captions and no conversation, so that a captioning prompt asks for the captions."""

    CHANGE = "without conversations"

    def change(self, sample: Sample) -> Sample:
        return replace(sample, turns=())
