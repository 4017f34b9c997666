"""What a study is asked for: budgets, options of single recipes, and folders that hold something else."""

from pathlib import Path

import pytest

from diptych.core.errors import ConfigError
from diptych.study.config import StudyBudget, StudyConfig, StudyRun, claim, read_spec
from diptych.study.one_run import resolved

OPTIONS = ("clip_tiny.optimizer.lr=1e-3", "clip_tiny.batch_size=8", "coca_tiny.batch_size=4")
STUDY = StudyConfig(("clip_tiny", "coca_tiny"), "scenes?objects=1", StudyBudget(samples=64), 2, 10, OPTIONS)


def test_runs_come_seed_by_seed_with_their_recipes_own_options() -> None:
    runs = STUDY.runs()
    assert [run.name for run in runs] == ["clip_tiny-0", "coca_tiny-0", "clip_tiny-1", "coca_tiny-1"]
    assert runs[0].options == ("--optimizer.lr", "1e-3", "--batch_size", "8")
    assert runs[3].options == ("--batch_size", "4") and runs[3].seed == 1


def test_the_command_names_everything() -> None:
    assert STUDY.command("there") == (
        "diptych study clip_tiny coca_tiny --data 'scenes?objects=1' --samples 64 --seeds 2 --limit 10 --threads 1 "
        "--device cpu --set clip_tiny.optimizer.lr=1e-3 clip_tiny.batch_size=8 coca_tiny.batch_size=4 --out there"
    )


def test_what_is_held_out_is_part_of_the_reference_and_not_of_the_command() -> None:
    study = StudyConfig(("clip_tiny",), "photos?captions=alt", held_out="/my runs/held_out.txt")
    assert study.reference == "photos?captions=alt&held_out=/my%20runs/held_out.txt"
    assert study.runs()[0].data == study.reference and "--data 'photos?captions=alt'" in study.command()


@pytest.mark.parametrize("given", [{}, {"samples": 5, "seconds": 1.0}, {"samples": -3}, {"flops": -1.0}])
def test_one_budget_is_given(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="one of them"):
        StudyBudget(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["clip_tiny", "siglip_tiny.seed=1", "clip_tiny=1", "clip_tiny.=1"])
def test_an_option_of_no_recipe_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=r"RECIPE\.FIELD=VALUE"):
        StudyConfig(("clip_tiny",), options=(option,))


def test_a_study_of_one_recipe_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="name each once"):
        StudyConfig(("clip_tiny", "clip_tiny"))


def test_a_folder_with_a_run_of_another_study_is_refused(tmp_path: Path) -> None:
    run = StudyRun("clip_tiny", 0, "scenes", StudyBudget(samples=64))
    claim(run, tmp_path)
    claim(StudyRun("clip_tiny", 0, "scenes", StudyBudget(samples=64), threads=2), tmp_path)
    assert read_spec(tmp_path) == run
    with pytest.raises(ConfigError, match="another budget"):
        claim(StudyRun("clip_tiny", 0, "scenes", StudyBudget(samples=128)), tmp_path)


def test_the_budget_becomes_whole_steps_of_the_recipes_batch(tmp_path: Path) -> None:
    run = resolved(StudyRun("clip_tiny", 3, "scenes?objects=1", StudyBudget(samples=1000)), tmp_path)
    assert (run.budget.steps, run.batch_size, run.seed, run.data) == (15, 64, 3, "scenes?objects=1")
    assert run.schedule.warmup == 1 and run.evaluate_every == 0
    with pytest.raises(ConfigError, match="63 samples are less than one step of clip_tiny"):
        resolved(StudyRun("clip_tiny", 0, "scenes", StudyBudget(samples=63)), tmp_path)


def test_seconds_and_flops_are_measured_once(tmp_path: Path) -> None:
    options = ("--batch_size", "8")
    run = StudyRun("clip_tiny", 0, "scenes?objects=1&count=60", StudyBudget(flops=1e10), options)
    steps = resolved(run, tmp_path).budget.steps
    assert steps == pytest.approx(1e10 / (8 * 169414131200 / 1280), rel=0.1)  # a step of 8 as of 64, by pair
    (tmp_path / "steps.json").write_text('{"steps": 7}')
    assert resolved(run, tmp_path).budget.steps == 7
