"""What a claim is: a sentence, arms to train, comparisons of them, and a threshold, all written down before the runs.

A file beside this one whose name has no underscore in front, and is neither a runner nor a page maker, is a claim: it
holds `CLAIM`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import unknown_name
from diptych.core.source import Source
from diptych.data.open import open_source
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._image_text import ImageTextRun
from diptych.training.run import Budget, Run

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SEEDS, STANDARD_ERRORS, LEVEL = 5, 2.0, 0.05
FEW = 3
"""Seeds of a claim whose arms are many or long."""


def threshold(seeds: int) -> str:
    """What is asked of a comparison that names nothing else."""
    return (
        f"each primary comparison: the paired mean gain over {seeds} seeds is above zero by at least "
        f"{STANDARD_ERRORS:g} of its standard errors, and the one-sided paired t test gives p < {LEVEL:g}"
    )


THRESHOLD = threshold(SEEDS)
BLIND_ERRORS, BLIND_FACTOR = 5.0, 1.5
BLIND_THRESHOLD = (
    f"over {FEW} seeds: the paired mean gain over the blind control is above zero by at least "
    f"{BLIND_ERRORS:g} of its standard errors, and where a factor is named, the gain over so many times the control is "
    f"above zero; each with p < {LEVEL:g} in the one-sided paired t test"
)
RECALLS = ("text_to_image_r1", "text_to_image_r10", "image_to_text_r1", "image_to_text_r10")

R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class Evaluation:
    """One look at data that nothing was trained or selected on.

    Attributes:
        name: what its metrics are called after: "name/metric".
        data: opens the held-out data.
        benchmark: one of `diptych list benchmarks`.
        metrics: those of its numbers that are kept; "name:chance" is what chance gives in its place.
        limit: the most samples.
        settings: fields of the benchmark's `Settings` to change.
        seen_as: the model with a part of its own changed or taken away; None for the model as it was trained.
    """

    name: str
    data: Callable[[], Source]
    benchmark: str = "retrieval"
    metrics: tuple[str, ...] = RECALLS
    limit: int = 400
    settings: Mapping[str, Any] = field(default_factory=dict)
    seen_as: Callable[[Predictor], Predictor] | None = None


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        run: the recipe's run with its fields replaced; seed and threads are the runner's.
        evaluations: where the selected model is measured.
        curves: whether loss and gradient norm of the training are kept too (_curves.py).
    """

    name: str
    run: Callable[[], Run]
    evaluations: tuple[Evaluation, ...]
    curves: bool = False


@dataclass(frozen=True)
class Comparison:
    """The gain of one arm over another, seed by seed.

    gain = treated - factor * control + margin, and the other way round where lower is better.

    Attributes:
        treated, control: names of arms; one and the same where an arm is compared with its own chance.
        metrics: "evaluation/metric", "training/..." of an arm with curves, "seconds" of training or
            "samples_per_second"; of several the mean is compared.
        factor: of the control's value: 0.8 asks for four fifths of the time.
        margin: how much less would still do: above 0 the comparison is one of non-inferiority.
        against: the control's metrics, where they are called otherwise.
        lower: whether lower is better.
        errors: by how many standard errors the mean gain must be above zero.
        primary: whether the claim stands or falls with it; others are context.
    """

    name: str
    treated: str
    control: str
    metrics: tuple[str, ...]
    factor: float = 1.0
    margin: float = 0.0
    against: tuple[str, ...] = ()
    lower: bool = False
    errors: float = STANDARD_ERRORS
    primary: bool = True


@dataclass(frozen=True)
class Claim:
    """A sentence that an experiment can contradict."""

    sentence: str
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    threshold: str = THRESHOLD
    seeds: int = SEEDS

    def arm(self, name: str) -> Arm:
        """The arm of this name.

        Raises:
            ConfigError: there is none; the nearest is named.
        """
        known = {arm.name: arm for arm in self.arms}
        if name not in known:
            raise unknown_name("arm", name, known)
        return known[name]


def beats_blind(name: str, treated: str, control: str, metrics: tuple[str, ...]) -> tuple[Comparison, Comparison]:
    """Both halves of the threshold against a blind control: standard errors, and a factor."""
    return (
        Comparison(name, treated, control, metrics, errors=BLIND_ERRORS),
        Comparison(f"{name}, {BLIND_FACTOR:g} times", treated, control, metrics, factor=BLIND_FACTOR, errors=0.0),
    )


def names() -> list[str]:
    """Every claim."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("run", "page") and path.stem[0] != "_")


def shown(name: str) -> str:
    """The result file of a claim, from the repository's root."""
    return f"benchmarks/claims/results/{name}.json"


def claim(name: str) -> Claim:
    """The claim of this name.

    Raises:
        ConfigError: there is none; the nearest is named.
    """
    if name not in names():
        raise unknown_name("claim", name, names())
    found: Claim = importlib.import_module(name).CLAIM
    return found


def scenes(options: str, split: str = "test") -> Callable[[], Source]:
    """Opens a split of the scenes; the splits share no combination of objects."""
    return lambda: open_source(f"scenes?{options}", split)


def ready(run: R, seed: int, steps: int = 0) -> R:
    """The run as the runner trains it: this seed, one thread; every stage cut to so many steps, where given."""
    run = replace(run, seed=seed, threads=1, loader_threads=1)
    if not steps:
        return run
    cut: dict[str, Any] = {"budget": Budget(steps=steps)}
    for part in fields(run):
        if isinstance(earlier := getattr(run, part.name), EarlierStage):
            cut[part.name] = replace(earlier, steps=steps)
    if isinstance(run, ImageTextRun) and run.tuning.steps:
        cut["tuning"] = replace(run.tuning, steps=steps)
    return replace(run, **cut)
