"""Filling in hidden words does not need large batches.

Survey 3.3.2: a masking objective has no negatives, so that small batches will do, where contrastive ones want large
batches. VisualBERT beside CLIP and SigLIP, at 8, 32 and 128 samples a step, each with the same number of samples seen,
the learning rate by the square root of the batch. Held-out pictures' captions are told apart from those of others; of
VisualBERT hidden words are counted too, of CLIP and SigLIP recalls.

The claim is that VisualBERT at 8 is as good as at 128, within 2 points; what the other two do is context.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from _claim import FEW, Arm, Claim, Comparison, Evaluation, threshold
from _seen import SEES, Short, seen, short_run
from _sources import as_run

from diptych.recipes._pairs import PairsRun
from diptych.recipes.clip_tiny import ClipRun, clip_tiny
from diptych.recipes.siglip_tiny import SiglipRun, siglip_tiny
from diptych.recipes.visualbert_tiny import VisualBertRun, visualbert_tiny

SAMPLES, BATCHES, MARGIN = 32_000, (8, 32, 128), 0.02
MATCHING = Evaluation("matching", seen, "matching", ("accuracy_expected",), 1000)
RETRIEVED = Evaluation("retrieval", seen, metrics=("text_to_image_r10",), limit=500)
TOLD_APART = ("matching/accuracy_expected",)

R = TypeVar("R", bound=PairsRun)


@dataclass(frozen=True, kw_only=True)
class ShortVisualBert(Short, VisualBertRun):
    """VisualBERT on these captions."""


@dataclass(frozen=True, kw_only=True)
class ShortClip(Short, ClipRun):
    """CLIP on these captions."""


@dataclass(frozen=True, kw_only=True)
class ShortSiglip(Short, SiglipRun):
    """SigLIP on these captions."""


def _at(kind: type[R], recipe: Callable[[], PairsRun], batch: int) -> Callable[[], R]:
    def run() -> R:
        lr = 1e-3 * math.sqrt(batch / 64)
        return as_run(kind, short_run(recipe(), samples=SAMPLES, batch=batch, lr=lr))

    return run


def _arms(name: str, kind: type[PairsRun], recipe: Callable[[], PairsRun], looks: tuple[Evaluation, ...]) -> list[Arm]:
    return [Arm(f"{name}_{batch}", _at(kind, recipe, batch), looks) for batch in BATCHES]


def _small_against_large(name: str, said: str, *, primary: bool) -> Comparison:
    return Comparison(
        f"{said} at 8 as good as at 128", f"{name}_8", f"{name}_128", TOLD_APART, margin=MARGIN, primary=primary
    )


CLAIM = Claim(
    sentence="Filling in hidden words does not need large batches.",
    arms=(
        *_arms("visualbert", ShortVisualBert, visualbert_tiny, SEES),
        *_arms("clip", ShortClip, clip_tiny, (MATCHING, RETRIEVED)),
        *_arms("siglip", ShortSiglip, siglip_tiny, (MATCHING, RETRIEVED)),
    ),
    comparisons=(
        _small_against_large("visualbert", "VisualBERT", primary=True),
        Comparison(
            "hidden words at 8 as good as at 128",
            "visualbert_8",
            "visualbert_128",
            ("words/colour", "words/shape"),
            margin=MARGIN,
        ),
        _small_against_large("clip", "CLIP", primary=False),
        _small_against_large("siglip", "SigLIP", primary=False),
    ),
    threshold=threshold(FEW),
    seeds=FEW,
)
