"""The findings of a study: one table of abilities, the costs, and what is missing and why."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from diptych.core.config import from_plain
from diptych.core.records.results import Metric, Result, read_result
from diptych.core.records.run_folder import RunFolder
from diptych.study.abilities import ABILITIES, Ability
from diptych.study.config import Runs
from diptych.study.one_run import ANSWERS, FAILED, FINISHED, Finished


@dataclass(frozen=True)
class RunRecord:
    """One run as it lies on the disk.

    Attributes:
        recipe: its column: the recipe, or the arm of an ablation.
        finished: None while it has not.
        why: why it has not: "not run yet", or what went wrong.
    """

    recipe: str
    seed: int
    folder: Path
    finished: Finished | None
    why: str
    results: Mapping[str, Result]
    answers: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One number of one recipe.

    Attributes:
        metric: the mean over seeds, with the 95 % t interval over them; of one seed the benchmark's own interval, over
            samples. None where it could not be had.
        seeds: values by seed.
        control: of the blind control; None where chance is the control.
        how: by which verb, and how the model has it.
        why: why there is no number.
    """

    metric: Metric | None
    seeds: Mapping[int, float]
    control: float | None = None
    how: str = ""
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One number of every recipe, in the study's order."""

    ability: Ability
    metric: str
    title: str
    cells: Mapping[str, Cell]

    @property
    def chance(self) -> float | None:
        """The mean over the recipes: where it is measured (captions on other pictures) each has its own."""
        found = [one.metric.chance for one in self.cells.values() if one.metric and one.metric.chance is not None]
        return fmean(found) if found else None

    @property
    def unit(self) -> str:
        return next((one.metric.unit for one in self.cells.values() if one.metric), "share")


@dataclass(frozen=True)
class Cost:
    """Of one recipe: means over its seeds.

    Attributes:
        seconds, flops, samples: of the stage that the budget is for.
        earlier_seconds, earlier_flops: of the training stages before it.
        memory: bytes above the idle process.
        parameters, trained: of the last stage.
        evaluation_seconds: everything that is not training.
    """

    seconds: float
    flops: float
    samples: float
    earlier_seconds: float
    earlier_flops: float
    memory: float
    parameters: float
    trained: float
    evaluation_seconds: float


def read_runs(config: Runs, out: Path) -> list[RunRecord]:
    """Every run of a study, done or not."""
    return [_read(run.column, run.seed, out / run.name) for run in config.runs()]


def _read(recipe: str, seed: int, folder: Path) -> RunRecord:
    finished = folder / FINISHED
    if not finished.is_file():
        return RunRecord(recipe, seed, folder, None, _reason(folder), {}, ())
    done = from_plain(Finished, json.loads(finished.read_text(encoding="utf-8")))
    places = sorted(RunFolder(folder).evaluation.glob("*/result.json"))
    results = {path.parent.name: read_result(path.parent) for path in places}
    answers = json.loads((folder / ANSWERS).read_text(encoding="utf-8"))
    return RunRecord(recipe, seed, folder, done, "", results, answers)


def _reason(folder: Path) -> str:
    failed = folder / FAILED
    if not failed.is_file():
        return "not finished yet" if RunFolder.is_one(folder) else "not run yet"
    plain = json.loads(failed.read_text(encoding="utf-8"))
    return f"{plain['during']} failed: {plain['why']}"


def table(runs: Sequence[RunRecord]) -> list[Row]:
    """Every number that any recipe has, in the order of the abilities."""
    recipes = list(dict.fromkeys(run.recipe for run in runs))
    found = []
    for ability in ABILITIES:
        for metric, title in ability.metrics.items():
            cells = {
                recipe: _cell(ability, metric, [one for one in runs if one.recipe == recipe]) for recipe in recipes
            }
            if any(cell.metric for cell in cells.values()):
                found.append(Row(ability, metric, title, cells))
    return found


def _cell(ability: Ability, metric: str, runs: Sequence[RunRecord]) -> Cell:
    there = {run.seed: run.results[ability.benchmark] for run in runs if ability.benchmark in run.results}
    numbers = {seed: result.metrics[metric] for seed, result in there.items() if metric in result.metrics}
    if not numbers:
        return Cell(None, {}, why=_absence(ability, metric, runs, bool(there)))
    first = next(iter(there.values()))
    control = ability.controls.get(metric, "")
    controls = [result.metrics[control].value for result in there.values() if control in result.metrics]
    how = ", ".join(f"{verb}: {origin}" for verb, origin in first.verbs.items())
    values = {seed: one.value for seed, one in numbers.items()}
    return Cell(over_seeds(list(numbers.values())), values, fmean(controls) if controls else None, how)


def _absence(ability: Ability, metric: str, runs: Sequence[RunRecord], evaluated: bool) -> str:
    """Why no run of a recipe has a number."""
    for run in runs:
        if run.finished is None:
            return run.why
        if why := run.finished.absent.get(ability.benchmark):
            return why
    return f"its {ability.benchmark} has no {metric}" if evaluated else "not evaluated"


def over_seeds(metrics: Sequence[Metric]) -> Metric:
    """The mean of one number over seeds, with its interval; a single seed's number as it is."""
    if len(metrics) == 1:
        return metrics[0]
    values = [one.value for one in metrics]
    chances = [one.chance for one in metrics if one.chance is not None]
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    mean, chance = fmean(values), fmean(chances) if chances else None
    return Metric(mean, mean - half, mean + half, chance, len(values), metrics[0].unit)


def costs(runs: Sequence[RunRecord]) -> dict[str, Cost]:
    """Of every recipe of which a run finished."""
    done: dict[str, list[Finished]] = {}
    for run in runs:
        if run.finished is not None:
            done.setdefault(run.recipe, []).append(run.finished)
    return {recipe: _cost(some) for recipe, some in done.items()}


def _cost(some: Sequence[Finished]) -> Cost:
    def mean(what: str, earlier: bool = False) -> float:
        stages = [one.stages[:-1] if earlier else one.stages[-1:] for one in some]
        return fmean(sum(float(getattr(stage, what)) for stage in part) for part in stages)

    training = mean("seconds") + mean("seconds", earlier=True)
    return Cost(
        seconds=mean("seconds"),
        flops=mean("flops"),
        samples=mean("samples"),
        earlier_seconds=mean("seconds", earlier=True),
        earlier_flops=mean("flops", earlier=True),
        memory=fmean(one.peak_memory - one.idle_memory for one in some),
        parameters=mean("parameters"),
        trained=mean("trained"),
        evaluation_seconds=max(fmean(one.seconds for one in some) - training, 0.0),
    )
