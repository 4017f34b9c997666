"""Frozen's captions name the colour and the shape of what is in the picture.

Tsimpoukelli et al. 2021 (arXiv 2106.13884): a vision encoder begins from nothing and is trained by gradients that go
through a language model of which no weight moves; a picture is two vectors before the words. Held-out scenes show
combinations of size, colour, shape and place that training never did. The control is the same
weights shown another picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from _claim import BLIND_THRESHOLD, FEW, Arm, Claim, Comparison, Evaluation, beats_blind, scenes
from _seen import said
from _sources import as_run

from diptych.core.source import Source
from diptych.recipes.frozen_tiny import FrozenRun, frozen_tiny
from diptych.training.run import Budget

WORLD = "size=32&objects=1&words=0&zoom=2"
STEPS, LIMIT = 2000, 300
OWN, OTHER = "captions/pair_recall", "captions/pair_recall_other_picture"


@dataclass(frozen=True, kw_only=True)
class Short(FrozenRun):
    """On captions of size, colour and shape; its language model has read captions of every kind."""

    def training_data(self) -> Source:
        return said(super().training_data())


def _run() -> FrozenRun:
    """Captions alone: episodes of invented words are another question."""
    run = replace(frozen_tiny(), share=0.0, told_share=0.0, evaluate_every=0, save_every=0)
    return as_run(Short, replace(run, words=replace(run.words, steps=500), budget=Budget(steps=STEPS)))


def _named() -> tuple[Evaluation, ...]:
    """The share of captions that name the object's colour and shape together, of the own picture and of another."""
    settings = {"baseline": False, "max_tokens": 16}
    metrics = ("pair_recall", "pair_recall_other_picture", "captions_with_a_pair")
    return (Evaluation("captions", lambda: said(scenes(WORLD)()), "captioning", metrics, LIMIT, settings),)


def _beats_swapped() -> tuple[Comparison, ...]:
    return tuple(
        replace(one, against=(OTHER,)) for one in beats_blind("coloured shapes, swapped", "frozen", "frozen", (OWN,))
    )


CLAIM = Claim(
    sentence="Frozen's captions name the colour and the shape of what is in the picture.",
    arms=(Arm("frozen", _run, _named()),),
    comparisons=_beats_swapped(),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
