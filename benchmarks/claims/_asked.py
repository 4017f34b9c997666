"""What the claims about answers share: the world, the questions, and the controls that do not see.

The controls are of the same weights, at evaluation: the picture of another question in the picture's place (swapped),
and no picture at all (withheld).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from _claim import Comparison, Evaluation, beats_blind, scenes

from diptych.models.contrastive import clip
from diptych.recipes._own_parts import OwnParts

SIDE = 32
WORLD = f"size={SIDE}&objects=1&words=0&zoom=2"
"""A lone large object on any background, 16 patches; the splits share no combination of size, colour, shape, place."""
LIMIT = 100
"""Held-out pictures, each with all its questions: colour, shape, place, number, and whether two things are there."""
KINDS = ("colour", "shape", "place", "number", "yes_no")

R = TypeVar("R", bound=OwnParts)


def small(run: R) -> R:
    """A recipe on this world, measured at its end alone."""
    return replace(
        run,
        data=f"scenes?{WORLD}",
        image=replace(run.image, size=SIDE),
        towers=clip.Config.tiny(image_size=SIDE),
        evaluate_every=0,
        save_every=0,
    )


def answered(prompt: str = "{}") -> tuple[Evaluation, Evaluation]:
    """Questions with the own picture and another's, then without one.

    Args:
        prompt: how a question stands where `generate_text` is asked.
    """
    metrics = ("accuracy", "accuracy_other_picture", "accuracy:chance", *(f"accuracy_{kind}" for kind in KINDS))
    data, settings = scenes(WORLD), {"prompt": prompt}
    return (
        Evaluation("vqa", data, "vqa", metrics, LIMIT),
        Evaluation("withheld", data, "_measures.withheld", ("accuracy",), LIMIT, settings),
    )


def sees(arm: str) -> tuple[Comparison, ...]:
    """The own picture against another's, and against none; a constant answer for each kind of question as context."""
    seen = ("vqa/accuracy",)
    constant = Comparison("answers, best constants", arm, arm, seen, against=("vqa/accuracy:chance",), primary=False)
    return (
        *over("answers, swapped", arm, seen, "vqa/accuracy_other_picture"),
        *over("answers, withheld", arm, seen, "withheld/accuracy"),
        constant,
    )


def over(
    name: str, arm: str, metrics: tuple[str, ...], against: str, primary: bool = True
) -> tuple[Comparison, ...]:  # fmt: skip
    """Both halves of the threshold, against another number of the same weights."""
    return tuple(replace(one, against=(against,), primary=primary) for one in beats_blind(name, arm, arm, metrics))
