"""One arm with one seed: trained with `fit`, its selected model measured, the numbers left beside the run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _claim import Arm, Evaluation, claim, ready
from _curves import curve_values
from _origin import fingerprint

from diptych.capabilities.load import load
from diptych.core.config import to_plain
from diptych.core.errors import ConfigError
from diptych.core.records.environment import environment
from diptych.core.records.results import Result
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import write_text
from diptych.evaluation.runner import evaluate
from diptych.training.fit import fit


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        steps: of every budget, in a draft; 0 for the definition's own.
        limit: the most samples of an evaluation, in a draft; 0 for the definition's own.
    """

    claim: str
    arm: str
    seed: int
    steps: int = 0
    limit: int = 0

    def folder(self, work: Path) -> Path:
        """Where it lies."""
        return work / f"{self.arm}-{self.seed}"

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on besides the code."""
        return {**vars(self), "definition": fingerprint(self.claim)}


def finished(job: Job, work: Path) -> dict[str, Any] | None:
    """What an earlier session left.

    Raises:
        ConfigError: it was of another definition.
    """
    path = job.folder(work) / "values.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found["job"] != job.identity():
        raise ConfigError(f"{path.parent.name} was trained for another definition: name an empty folder with --work")
    return found


def train(job: Job, work: Path) -> None:
    """Trains, or goes on where it was stopped, and measures."""
    arm = claim(job.claim).arm(job.arm)
    run = ready(arm.run(), job.seed, job.steps)
    place = job.folder(work)
    folder = fit(run, place / "run", resume=RunFolder.is_one(place / "run"))
    costs = json.loads((folder.path / "costs.json").read_text(encoding="utf-8"))
    samples = sum(stage["samples"] for stage in costs["stages"].values())
    document = {
        "job": job.identity(),
        "values": {
            **measured(arm, folder.best_model(), job.limit),
            **(curve_values(folder.lines()) if arm.curves else {}),
            "seconds": costs["seconds"],
            "samples_per_second": samples / max(costs["seconds"], 1e-9),
        },
        "parameters": costs["parameters"],
        "commit": environment()["commit"],
        "config": to_plain(run),
    }
    write_text(place / "values.json", json.dumps(document, indent=1) + "\n")


def measured(arm: Arm, model: Path, limit: int = 0) -> dict[str, float]:
    """ "evaluation/metric" -> value, of the selected model."""
    return {
        f"{evaluation.name}/{name}": value
        for evaluation in arm.evaluations
        for name, value in _one(evaluation, model, limit).items()
    }


def _one(evaluation: Evaluation, model: Path, limit: int) -> dict[str, float]:
    most, settings = limit or evaluation.limit, {evaluation.benchmark: evaluation.settings}
    predictor = load(model) if evaluation.seen_as is None else evaluation.seen_as(load(model))
    (result,) = evaluate(predictor, [evaluation.benchmark], evaluation.data(), limit=most, settings=settings)
    return {name: _number(result, name) for name in evaluation.metrics}


def _number(result: Result, name: str) -> float:
    metric, _, part = name.partition(":")
    if part != "chance":
        return result.metrics[metric].value
    chance = result.metrics[metric].chance
    assert chance is not None, f"{metric} of {result.benchmark} has no chance"
    return chance
