"""Frozen's captions name the size and the colour of what is in the picture.

As `frozen_captions`, whose first seed named every size and colour of pictures to select on and no shape: this one asks
for what is learned soon, of shorter runs of their own. The control is the same weights shown another
picture.
"""

from __future__ import annotations

from dataclasses import replace

from _claim import BLIND_THRESHOLD, FEW, Arm, Claim, Comparison, Evaluation, beats_blind, scenes
from _sources import as_run
from frozen_captions import WORLD, Short

from diptych.recipes.frozen_tiny import FrozenRun, frozen_tiny
from diptych.training.run import Budget

STEPS, LIMIT = 800, 300
SUFFIXES = ("", "_other_picture")
METRICS = tuple(f"{attribute}{suffix}" for attribute in ("size", "colour", "shape") for suffix in SUFFIXES)


def _run() -> FrozenRun:
    """Captions alone: episodes of invented words are another question."""
    run = replace(frozen_tiny(), share=0.0, told_share=0.0, evaluate_every=0, save_every=0)
    return as_run(Short, replace(run, words=replace(run.words, steps=300), budget=Budget(steps=STEPS)))


def _beats_swapped(attribute: str, primary: bool = True) -> tuple[Comparison, ...]:
    name, own = f"{attribute}, swapped", f"named/{attribute}"
    both = beats_blind(name, "frozen", "frozen", (own,))
    return tuple(replace(one, against=(f"{own}_other_picture",), primary=primary) for one in both)


CLAIM = Claim(
    sentence="Frozen's captions name the size and the colour of what is in the picture.",
    arms=(Arm("frozen", _run, (Evaluation("named", scenes(WORLD), "_measures.named", METRICS, LIMIT),)),),
    comparisons=(*_beats_swapped("size"), *_beats_swapped("colour"), *_beats_swapped("shape", primary=False)),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
