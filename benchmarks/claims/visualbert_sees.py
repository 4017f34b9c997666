"""VisualBERT fills in colours and shapes, and tells captions apart, from the picture.

Li et al. 2019 (arXiv 1908.03557): words and regions attend to one another in one transformer. Held-out scenes show
combinations of size, colour, shape and place that training never did. The control is the same training on grey
pictures, measured on grey ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from _claim import BLIND_THRESHOLD, FEW, Arm, Claim
from _seen import BLIND, SEES, Short, ShortBlind, seen_beats_blind, short_run
from _sources import as_run

from diptych.recipes.visualbert_tiny import VisualBertRun, visualbert_tiny

SAMPLES = 96_000


@dataclass(frozen=True, kw_only=True)
class Sees(Short, VisualBertRun):
    """With pictures."""


@dataclass(frozen=True, kw_only=True)
class Unseeing(ShortBlind, VisualBertRun):
    """Without."""


def _run() -> VisualBertRun:
    return short_run(visualbert_tiny(), samples=SAMPLES)


CLAIM = Claim(
    sentence="VisualBERT fills in colours and shapes, and tells captions apart, from the picture.",
    arms=(
        Arm("visualbert", lambda: as_run(Sees, _run()), SEES),
        Arm("blind", lambda: as_run(Unseeing, _run()), BLIND),
    ),
    comparisons=seen_beats_blind("visualbert", "blind"),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
