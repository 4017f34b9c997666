"""MaskVLM fills in colours and shapes, and tells captions apart, from the picture.

Kwon et al. 2022 (arXiv 2208.02131): masked words are found in what is left of the text and all of the picture. Held-out
scenes show combinations of size, colour, shape and place that training never did. The control is the same training on
grey pictures, measured on grey ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from _claim import BLIND_THRESHOLD, FEW, Arm, Claim
from _seen import BLIND, SEES, Short, ShortBlind, seen_beats_blind, short_run
from _sources import as_run

from diptych.recipes._alignment import Alignment
from diptych.recipes.maskvlm_tiny import MaskVlmRun, maskvlm_tiny

ALIGNED, SAMPLES = 24_000, 40_000


@dataclass(frozen=True, kw_only=True)
class Sees(Short, MaskVlmRun):
    """With pictures."""


@dataclass(frozen=True, kw_only=True)
class Unseeing(ShortBlind, MaskVlmRun):
    """Without."""


def _run() -> MaskVlmRun:
    return replace(short_run(maskvlm_tiny(), samples=SAMPLES), alignment=Alignment(samples=ALIGNED))


CLAIM = Claim(
    sentence="MaskVLM fills in colours and shapes, and tells captions apart, from the picture.",
    arms=(
        Arm("maskvlm", lambda: as_run(Sees, _run()), SEES),
        Arm("blind", lambda: as_run(Unseeing, _run()), BLIND),
    ),
    comparisons=seen_beats_blind("maskvlm", "blind"),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
