"""What the claims about models that make pictures share: the world, the prompts, and the comparison with chance.

Chance is how often the pictures of other prompts show what a prompt says: a model that does not read gets that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from _claim import FEW, LEVEL, STANDARD_ERRORS, Comparison, Evaluation, scenes

from diptych.training.run import Run

WORLD = "size=32&objects=1&words=0&zoom=2&patterns=0&noise=0"
"""Of the tiny recipes: a lone large object on a plain background; the splits share no combination of its attributes."""
FACTOR = 5.0
PROMPTS = 200
DRAWING_THRESHOLD = (
    f"over {FEW} seeds: the mean share of held-out prompts whose picture shows an object of the right shape and colour "
    f"is above {FACTOR:g} times chance by at least {STANDARD_ERRORS:g} standard errors, with p < {LEVEL:g} in the "
    f"one-sided paired t test; other comparisons are context unless they are called primary"
)

R = TypeVar("R", bound=Run)


def quiet(run: R) -> R:
    """A recipe as it is, measured at its end alone."""
    return replace(run, evaluate_every=0, save_every=0)


def drawn(name: str, sampling: Mapping[str, Any] | None = None, prompts: int = PROMPTS) -> Evaluation:
    """Pictures of held-out prompts, read by the scenes' recogniser.

    Args:
        sampling: in the place of the model's own way.
    """
    metrics = ("colour", "colour:chance", "object", "object:chance", "nothing")
    settings = {} if sampling is None else {"sampling": dict(sampling)}
    return Evaluation(name, scenes(WORLD), "prompt_agreement", metrics, prompts, settings)


def beats_chance(arm: str, name: str = "own") -> Comparison:
    """Object and colour together, and so many times chance."""
    return Comparison(
        f"object and colour, {FACTOR:g} times chance", arm, arm, (f"{name}/colour",), FACTOR,
        against=(f"{name}/colour:chance",),
    )  # fmt: skip


def raises(name: str, arm: str, treated: str, control: str) -> Comparison:
    """Agreement of one way of drawing over that of another, from the same weights."""
    return Comparison(
        name, arm, arm, (f"{treated}/colour",), against=(f"{control}/colour",), primary=False
    )  # fmt: skip
