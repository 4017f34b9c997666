"""FLAVA fills in colours and shapes, and tells captions apart, from the picture.

Singh et al. 2022 (arXiv 2112.04482): two encoders, and a multimodal one over what both give, with six losses. Held-out
scenes show combinations of size, colour, shape and place that training never did. The control is the same training on
grey pictures, measured on grey ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from _claim import BLIND_THRESHOLD, FEW, Arm, Claim
from _seen import BLIND, SEES, SIDE, blind, said, seen_beats_blind, short_run
from _sources import as_run

from diptych.core.source import Source
from diptych.models.masked._flava_codes import VqCodes
from diptych.recipes._alignment import Alignment
from diptych.recipes._flava import CodebookStage, FlavaRun
from diptych.recipes.flava_tiny import flava_tiny

ALIGNED, SAMPLES = 24_000, 160_000


@dataclass(frozen=True, kw_only=True)
class Sees(FlavaRun):
    """With pictures."""

    def pairs(self) -> Source:
        return said(super().pairs())

    def selection_data(self) -> Source:
        return said(super().selection_data())


@dataclass(frozen=True, kw_only=True)
class Unseeing(Sees):
    """Without."""

    def pairs(self) -> Source:
        return blind(super().pairs())

    def selection_data(self) -> Source:
        return blind(super().selection_data())


def _run() -> FlavaRun:
    run = short_run(flava_tiny(), samples=SAMPLES)
    codes = run.model.codes
    assert isinstance(codes, VqCodes)
    run = replace(run, model=replace(run.model, codes=replace(codes, image_size=SIDE)))
    return replace(run, alignment=Alignment(samples=ALIGNED), codebook=CodebookStage(steps=400))


CLAIM = Claim(
    sentence="FLAVA fills in colours and shapes, and tells captions apart, from the picture.",
    arms=(
        Arm("flava", lambda: as_run(Sees, _run()), SEES),
        Arm("blind", lambda: as_run(Unseeing, _run()), BLIND),
    ),
    comparisons=seen_beats_blind("flava", "blind"),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
