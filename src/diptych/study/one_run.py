"""One run of a study, in a process of its own: train, count what it cost, evaluate, answer the shared questions.

`python -m diptych.study.one_run FOLDER` does what FOLDER/study_run.json says and leaves `finished.json`, or
`failed.json` with the reason. What an earlier try finished is not done again.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from diptych.capabilities.load import check_device, load
from diptych.capabilities.predictor import Predictor
from diptych.core.allocator import keep_large_blocks
from diptych.core.errors import ConfigError, DiptychError, Interrupted, MissingVerb
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import write_text
from diptych.evaluation.runner import evaluate
from diptych.study.abilities import ABILITIES, Ability
from diptych.study.config import StudyBudget, StudyRun, read_spec
from diptych.study.costs import StageCost, stage_costs
from diptych.study.gallery import answers
from diptych.training.configured import overridden, recipe
from diptych.training.fit import fit
from diptych.training.preflight.check import check
from diptych.training.preflight.machine import held_memory, peak_memory
from diptych.training.run import Budget, Run

FINISHED, FAILED, ANSWERS = "finished.json", "failed.json", "answers.json"
_WARMUP = 8
"""A warm-up is at most one over so much of the steps."""


@dataclass(frozen=True)
class Finished:
    """What a run leaves for the study's table, beside its evaluation folder.

    Attributes:
        verbs: verb -> how the model has it.
        absent: benchmark -> why it was not run.
        stages: costs of each training stage, the one that the budget is for last.
        idle_memory, peak_memory: bytes before training and at most, of the GPU's memory or of the process.
        seconds: of everything, evaluation included.
    """

    verbs: dict[str, str]
    absent: dict[str, str]
    stages: tuple[StageCost, ...]
    idle_memory: int
    peak_memory: int
    seconds: float


def main(folder: Path) -> int:
    """Does the run; 0 when it finished, 1 when it failed and `failed.json` says why, 130 after an interrupt."""
    keep_large_blocks()
    spec = read_spec(folder)
    (folder / FAILED).unlink(missing_ok=True)
    where = "training"
    try:
        device = check_device(spec.device)
        started, idle = time.perf_counter(), held_memory(device)
        run = resolved(spec, folder)
        place = fit(run, folder, resume=RunFolder.is_one(folder))
        costs = stage_costs(run, place)
        peak = peak_memory(device)
        where = "evaluation"
        model = load(place.path, run.device)
        absent = _evaluate(model, spec, place)
        write_text(folder / ANSWERS, json.dumps(answers(model, spec.data)) + "\n")
        verbs = {str(verb): model.how(verb) for verb in sorted(model.verbs)}
        done = Finished(verbs, absent, costs, idle, peak, round(time.perf_counter() - started, 2))
        write_text(folder / FINISHED, json.dumps(asdict(done), indent=2) + "\n")
    except Interrupted as stopped:
        return stopped.exit_code
    except KeyboardInterrupt:
        return 130
    except (DiptychError, torch.OutOfMemoryError) as error:
        write_text(folder / FAILED, json.dumps({"during": where, "why": str(error)}) + "\n")
        print(f"{where}: {error}", file=sys.stderr)
        return 1
    return 0


def resolved(spec: StudyRun, folder: Path) -> Run:
    """The configuration of the run: as it was begun, or the recipe with the study's data, seed and budget.

    Raises:
        ConfigError: the budget is less than a step.
    """
    run = overridden(recipe(spec.recipe), list(spec.options), spec.recipe)
    run = replace(run, data=spec.data, seed=spec.seed, device=spec.device, evaluate_every=0, save_every=0)
    run = replace(run, threads=spec.threads or run.threads)
    steps = _steps(run, spec.budget, folder)
    if steps < 1:
        raise ConfigError(
            f"{spec.budget} are less than one step of {spec.recipe}, whose batch has {run.batch_size} samples: give "
            f"more, or a smaller batch with --set {spec.recipe}.batch_size="
        )
    schedule = replace(run.schedule, warmup=min(run.schedule.warmup, max(steps // _WARMUP, 1)))
    return replace(run, budget=Budget(steps=steps), schedule=schedule)


def _steps(run: Run, budget: StudyBudget, folder: Path) -> int:
    """Whole steps of the budget; seconds and FLOPs are measured once and remembered."""
    if budget.samples:
        return budget.samples // run.batch_size
    known = folder / "steps.json"
    if not known.is_file():
        last = check(run, folder)[-1]
        each = last.time.step if budget.seconds else float(last.flops)
        write_text(known, json.dumps({"steps": int((budget.seconds or budget.flops) / each), "each": each}) + "\n")
    return int(json.loads(known.read_text(encoding="utf-8"))["steps"])


def _evaluate(model: Predictor, spec: StudyRun, place: RunFolder) -> dict[str, str]:
    """Every ability's benchmark; why one could not be run, by its name."""
    absent: dict[str, str] = {}
    for ability in ABILITIES:
        if why := ability.missing(spec.data):
            absent[ability.benchmark] = why
            continue
        try:
            _one(model, spec, place, ability)
        except MissingVerb as lacking:
            absent[ability.benchmark] = f"has no {lacking.verb}"
        except DiptychError as error:
            absent[ability.benchmark] = str(error)
    return absent


def _one(model: Predictor, spec: StudyRun, place: RunFolder, ability: Ability) -> None:
    evaluate(
        model,
        [ability.benchmark],
        ability.data(spec.data),
        folder=place.evaluation,
        limit=spec.limit,
        settings={ability.benchmark: ability.settings},
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
