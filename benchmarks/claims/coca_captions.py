"""CoCa's captions name the colour and the shape of what is in the picture.

Yu et al. 2022 (arXiv 2205.01917): one pass is trained by contrast and by captions. Held-out scenes show combinations of
size, colour, shape and place that training never did. The control is the same training on grey pictures, measured on
grey ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from _claim import BLIND_THRESHOLD, FEW, Arm, Claim, Evaluation, beats_blind
from _seen import Short, ShortBlind, seen, short_run, unseen
from _sources import as_run

from diptych.core.source import Source
from diptych.recipes.coca_tiny import CocaRun, coca_tiny

SAMPLES = 11_200
LIMIT = 300


def _said(data: Callable[[], Source]) -> tuple[Evaluation, ...]:
    """Captions of held-out pictures: the share that name the object's colour and shape together."""
    settings = {"baseline": False, "max_tokens": 12}
    return (Evaluation("captions", data, "captioning", ("pair_recall", "captions_with_a_pair"), LIMIT, settings),)


@dataclass(frozen=True, kw_only=True)
class Sees(Short, CocaRun):
    """With pictures."""


@dataclass(frozen=True, kw_only=True)
class Unseeing(ShortBlind, CocaRun):
    """Without."""


def _run() -> CocaRun:
    return short_run(coca_tiny(), samples=SAMPLES)


CLAIM = Claim(
    sentence="CoCa's captions name the colour and the shape of what is in the picture.",
    arms=(
        Arm("coca", lambda: as_run(Sees, _run()), _said(seen)),
        Arm("blind", lambda: as_run(Unseeing, _run()), _said(unseen)),
    ),
    comparisons=beats_blind("coloured shapes", "coca", "blind", ("captions/pair_recall",)),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
