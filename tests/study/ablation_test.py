"""One thing changed at a time: what is run, effects against the base, the page, and files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from findings_test import finish
from scipy import stats

from diptych.commands.ablate import main
from diptych.core.errors import ConfigError
from diptych.core.storage import write_text
from diptych.study.ablation import BASE, MM1, AblationConfig, read_arms
from diptych.study.ablation_page import render
from diptych.study.config import StudyBudget
from diptych.study.effects import effects_of, write_effects
from diptych.study.findings import read_runs
from diptych.training.configured import overridden, recipe

BUDGET = StudyBudget(samples=80)
ARMS = {
    "recipe": "clip_tiny",
    "data": "scenes?objects=1",
    "base": {"image.size": 32, "model.vision.image_size": 32},
    "factors": {
        "width": {"narrow": {"model.vision.width": 48}, "wide": {"model.vision.width": 192}},
        "rate": {"low": {"optimizer.lr": 1e-5}},
    },
}
VALUES = {"base": (0.5, 0.25, 0.75), "width: narrow": (0.25, 0.25, 0.25), "width: wide": (0.75, 0.5, 1.0)}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "arms.json"
    write_text(path, json.dumps(ARMS | changes))
    return path


@pytest.fixture
def ablation(tmp_path: Path) -> tuple[AblationConfig, Path]:
    """Three seeds of a base and two arms; of a third arm nothing has been run."""
    config = read_arms(written(tmp_path), BUDGET, seeds=3)
    folders = {(run.column, run.seed): tmp_path / run.name for run in config.runs()}
    for column, values in VALUES.items():
        for seed, value in enumerate(values):
            finish(folders[column, seed], [1.0] * int(4 * value) + [0.0] * (4 - int(4 * value)))
    return config, tmp_path


def test_runs_differ_from_the_base_in_one_thing_and_share_seeds(tmp_path: Path) -> None:
    config = read_arms(written(tmp_path), BUDGET, seeds=2)
    runs = config.runs()
    assert [(run.column, run.seed) for run in runs[:4]] == [
        (BASE, 0), ("width: narrow", 0), ("width: wide", 0), ("rate: low", 0),
    ]  # fmt: skip
    assert len(runs) == 8 and len({run.name for run in runs}) == 8 and runs[5].name == "width_narrow-1"
    made = {run.column: overridden(recipe(run.recipe), list(run.options), run.recipe) for run in runs}
    assert made["width: wide"].model.vision.width == 192  # type: ignore[attr-defined]
    assert made["width: wide"].image.size == made[BASE].image.size == 32  # type: ignore[attr-defined]
    assert {run.data for run in runs} == {"scenes?objects=1"}


def test_effects_are_paired_over_seeds_and_corrected_over_arms(ablation: tuple[AblationConfig, Path]) -> None:
    config, out = ablation
    found = effects_of(config, read_runs(config, out))
    narrow, wide, low = found.arms
    (title,) = found.rows
    effect = wide.effects[title]
    assert (effect.first, effect.second) == (BASE, "width: wide") and effect.value == pytest.approx(0.25)
    assert effect.p == 0.0  # the same in every seed
    test = stats.ttest_rel(VALUES["width: narrow"], VALUES[BASE])
    low_end, high_end = test.confidence_interval()
    effect = narrow.effects[title]
    assert (effect.low, effect.high) == pytest.approx((low_end, high_end))
    assert effect.p == effect.corrected == pytest.approx(test.pvalue)  # Holm's: two are tested, this one last
    assert low.effects == {} and low.cost is None and narrow.cost is not None


def test_the_page_and_the_file_say_the_same(ablation: tuple[AblationConfig, Path]) -> None:
    config, out = ablation
    runs = read_runs(config, out)
    page = render(config, runs, "diptych ablate <arms>")
    assert "+25.0 points [+25.0, +25.0]" in page and "diptych ablate &lt;arms&gt;" in page
    assert "rate: low, seed 0</b>: not run yet" in page
    write_effects(config, runs, out / "ablation.json")
    plain = json.loads((out / "ablation.json").read_text())
    (effect,) = plain["effects"]["width: wide"].values()
    assert effect["value"] == pytest.approx(0.25) and plain["effects"]["rate: low"] == {}
    assert set(plain["costs"]) == set(VALUES)


def test_mm1_s_changes_can_all_be_run() -> None:
    config = read_arms(MM1, BUDGET)
    config.check()
    factors = list(dict.fromkeys(arm.factor for arm in config.arms))
    assert factors == [
        "resolution", "encoder capacity", "encoder pretraining", "connector", "tokens of a picture", "mix",
    ]  # fmt: skip
    assert config.seeds == 5
    chosen = config.of_factors(["mix"]).with_base(["captions.steps=3"])
    assert {arm.factor for arm in chosen.arms} == {"mix"}
    run = overridden(recipe("llava_tiny"), list(chosen.runs()[1].options), "llava_tiny")
    assert run.captions.steps == 3 and run.first_mix.documents == 1.0  # type: ignore[attr-defined]


def test_what_cannot_be_run_is_refused_before_anything_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for changes, said in (
        ({"factor": {}}, "unknown part of .*'factor': did you mean 'factors'"),
        ({"factors": []}, "names no recipe, or has no factors"),
        ({"factors": {"width": 3}}, "the factor 'width' has no arms"),
        ({"factors": {"width": {"wide": 3}}}, "width: wide are no fields"),
        ({"factors": {}}, "at least one arm"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_arms(written(tmp_path, **changes), BUDGET)
    for fields, said in (
        ({"model.vision.widht": 3}, "did you mean 'model.vision.width'"),
        ({"image.size": 32}, "the arm 'a: b' changes nothing of the base"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_arms(written(tmp_path, factors={"a": {"b": fields}}), BUDGET).check()
    with pytest.raises(ConfigError, match="2 seeds and 2 samples at least"):
        read_arms(written(tmp_path), BUDGET, seeds=1)
    config = read_arms(written(tmp_path), BUDGET)
    with pytest.raises(ConfigError, match="unknown factor 'widht': did you mean 'width'"):
        config.of_factors(["widht"])
    with pytest.raises(ConfigError, match="FIELD=VALUE; got 'x'"):
        config.with_base(["x"])
    with pytest.raises(ConfigError, match="no arms at"):
        main([str(tmp_path / "none.json")])


@pytest.mark.slow
def test_a_small_one_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"image.size": 32, "model.vision.image_size": 32, "batch_size": 4}
    arms = written(tmp_path, base=small, factors={"rate": {"low": {"optimizer.lr": 1e-5}}})
    command = [
        str(arms),
        "--data",
        "scenes?objects=2&size=32&count=60",
        "--samples",
        "8",
        "--seeds",
        "2",
        "--limit",
        "6",
    ]
    assert main([*command, "--out", str(tmp_path / "out"), "--processes", "2"]) == 0
    assert (tmp_path / "out" / "ablation.html").is_file() and "4/4" in capsys.readouterr().out
    plain = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert plain["effects"]["rate: low"] and not plain["missing"]
