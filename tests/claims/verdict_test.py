"""The verdict is the paired test that the threshold names, and a definition says everything before the run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from _claim import BLIND_THRESHOLD, FEW, Arm, Claim, Comparison, claim, names, ready, threshold
from _curves import CURVES
from _drawing import DRAWING_THRESHOLD
from _verdict import compared, gain, verdict
from scipy import stats

from diptych.core.errors import ConfigError
from diptych.recipes.clip_tiny import clip_tiny

BEATS = Comparison("beats", "new", "old", ("test/a", "test/b"))
CHEAPER = Comparison("cheaper", "new", "old", ("seconds",), factor=0.8, lower=True)
AS_GOOD = Comparison("as good", "new", "old", ("test/a",), margin=0.02, primary=False)
VALUES = {
    "new": [{"test/a": a, "test/b": 0.5, "seconds": s} for a, s in ((0.52, 7.0), (0.58, 7.5), (0.49, 6.0))],
    "old": [{"test/a": a, "test/b": 0.4, "seconds": s} for a, s in ((0.50, 10.0), (0.50, 10.0), (0.50, 9.0))],
}


def test_gains_are_in_the_direction_that_was_asked_for() -> None:
    new, old = VALUES["new"][0], VALUES["old"][0]
    assert gain(BEATS, new, old) == pytest.approx((0.02 + 0.1) / 2)
    assert gain(CHEAPER, new, old) == pytest.approx(0.8 * 10 - 7)
    assert gain(AS_GOOD, new, old) == pytest.approx(0.02 + 0.02)


def test_an_arm_may_be_compared_with_its_own_chance() -> None:
    five = Comparison("five times", "new", "new", ("test/a",), factor=5.0, against=("test/a:chance",))
    one = {"test/a": 0.6, "test/a:chance": 0.1}
    assert gain(five, one, one) == pytest.approx(0.6 - 5 * 0.1)
    assert compared(five, {"new": [one, one | {"test/a": 0.61}, one]})["against"] == ["test/a:chance"]


@pytest.mark.parametrize("comparison", [BEATS, CHEAPER, AS_GOOD], ids=lambda one: one.name)
def test_it_is_the_one_sided_paired_t_test(comparison: Comparison) -> None:
    found = compared(comparison, VALUES)
    gains = [gain(comparison, new, old) for new, old in zip(VALUES["new"], VALUES["old"], strict=True)]
    t, p = stats.ttest_rel(gains, [0.0] * 3, alternative="greater")
    assert (found["t"], found["p"]) == pytest.approx((t, p))
    assert found["standard_error"] == pytest.approx(stats.sem(gains))
    assert found["holds"] == (t > 2 and p < 0.05)


def test_a_comparison_names_its_standard_errors() -> None:
    t = compared(BEATS, VALUES)["t"]
    assert compared(replace(BEATS, errors=t - 0.01), VALUES)["holds"]
    assert not compared(replace(BEATS, errors=t + 0.01), VALUES)["holds"]


def test_a_claim_holds_when_its_primary_comparisons_do() -> None:
    arms = tuple(Arm(name, clip_tiny, ()) for name in ("new", "old"))
    lost = replace(AS_GOOD, margin=-1.0)
    assert verdict(Claim("", arms, (BEATS, CHEAPER, lost)), VALUES)[0] == "holds"
    assert verdict(Claim("", arms, (BEATS, replace(lost, primary=True))), VALUES)[0] == "does not hold"


def test_a_single_seed_proves_nothing() -> None:
    found = compared(BEATS, {name: values[:1] for name, values in VALUES.items()})
    assert (found["holds"], found["p"], found["standard_error"]) == (False, 1.0, None)


def test_equal_gains_have_no_error() -> None:
    one = {"seconds": 1.0, "test/a": 0.5, "test/b": 0.5}
    assert compared(BEATS, {"new": [one] * 3, "old": [one] * 3})["holds"] is False
    assert compared(CHEAPER, {"new": [one] * 3, "old": [one | {"seconds": 2.0}] * 3})["p"] == 0.0


@pytest.mark.parametrize("name", names())
def test_definitions_are_complete(name: str) -> None:
    found = claim(name)
    arms = {arm.name for arm in found.arms}
    kept = {
        arm.name: {f"{one.name}/{metric}" for one in arm.evaluations for metric in one.metrics} for arm in found.arms
    }
    assert found.sentence.endswith(".")
    kept |= {arm.name: kept[arm.name] | set(CURVES) for arm in found.arms if arm.curves}
    asked = (threshold(found.seeds), BLIND_THRESHOLD, DRAWING_THRESHOLD)
    assert found.seeds >= FEW and found.threshold.startswith(asked)
    assert len(arms) == len(found.arms) and any(one.primary for one in found.comparisons)
    for comparison in found.comparisons:
        sides = (
            (comparison.treated, comparison.metrics),
            (comparison.control, comparison.against or comparison.metrics),
        )
        for arm, metrics in sides:
            assert set(metrics) <= kept[arm] | {"seconds", "samples_per_second"}, comparison.name
    assert math.isfinite(sum(one.margin for one in found.comparisons))


@pytest.mark.parametrize("name", names())
def test_arms_are_measured_on_what_nothing_was_trained_or_selected_on(name: str) -> None:
    for arm in claim(name).arms:
        for evaluation in arm.evaluations:
            assert all("-test-" in key for key in evaluation.data().keys()), arm.name


@pytest.mark.parametrize("name", names())
def test_arms_can_be_made_ready(name: str) -> None:
    for arm in claim(name).arms:
        run = ready(arm.run(), seed=3, steps=2)
        assert (run.seed, run.threads, run.budget.steps) == (3, 1, 2), arm.name


def test_an_unknown_claim_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="siglip_small_batch"):
        claim("siglip_smal_batch")
