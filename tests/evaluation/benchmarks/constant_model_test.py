"""A model that says the same of everything gets exactly chance on every benchmark there is, and NaN gets nothing.

Strict scores count a tie as a miss, as published, so there it gets zero; the expectation when ties are broken at random
is chance; and every comparison is a tie.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

from diptych.capabilities.predictor import Predictor
from diptych.core import discovery
from diptych.core.errors import MissingVerb, NotANumber
from diptych.core.records.results import Metric
from diptych.evaluation.runner import evaluate

MET = ("score", "score_pairs", "encode_image")
BENCHMARKS = {name: one for name, one in discovery.benchmarks().items() if set(one.literal("REQUIRES", ())) <= {*MET}}
PROBES = {name for name, found in BENCHMARKS.items() if found.literal("REQUIRES", ()) == ("encode_image",)}


class Constant(Predictor):
    """The same unit vector for every picture and every text."""

    VERBS = ("encode_image", "encode_text")
    name = "constant"

    def __init__(self, value: float = 1.0) -> None:
        self.module = nn.Linear(1, 1)
        self.value = value

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        return torch.tensor([[self.value, 0.0]]).repeat(len(visuals), 1)

    encode_text = encode_image

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls()


class ConstantScore(Constant):
    """The same score for every picture with every text."""

    VERBS = ("score",)

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return torch.full((len(visuals), len(texts)), self.value)


class ConstantPairs(Constant):
    """The same matching score for every pair; whatever else it is asked follows from that."""

    VERBS = ("score_pairs",)

    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return torch.full((len(texts),), self.value)


def metrics(model: Predictor, benchmark: str, folder: Path) -> dict[str, Metric]:
    (result,) = evaluate(model, [benchmark], BENCHMARKS[benchmark].load().tiny_data(folder))
    return result.metrics


def test_there_are_both_kinds_of_benchmark() -> None:
    assert {"linear_probe", "knn"} == PROBES
    assert len(BENCHMARKS) >= 9


@pytest.mark.parametrize("model", [Constant(), ConstantScore(), ConstantPairs()], ids=["encodings", "score", "pairs"])
@pytest.mark.parametrize("benchmark", sorted(BENCHMARKS.keys() - PROBES))
def test_chance_when_ties_are_broken_at_random(benchmark: str, model: Predictor, tmp_path: Path) -> None:
    found = metrics(model, benchmark, tmp_path)
    expected = {name: metric for name, metric in found.items() if name.endswith("_expected")}
    assert expected
    for name, metric in expected.items():
        assert metric.chance is not None and 0 < metric.chance < 1
        assert metric.value == pytest.approx(metric.chance, abs=1e-12), name
        strict = found[name.removesuffix("_expected")]
        assert strict.chance == metric.chance
        assert strict.value == 0.0, name
    ties = [metric.value for name, metric in found.items() if name.endswith("tie_rate")]
    assert ties and set(ties) == {1.0}


@pytest.mark.parametrize("benchmark", sorted(PROBES))
def test_a_probe_learns_the_commonest_class_and_nothing_else(benchmark: str, tmp_path: Path) -> None:
    found = metrics(Constant(), benchmark, tmp_path)
    # One answer for everything: right for one class, so chance on average over classes whatever their frequencies.
    assert found["mean_per_class"].chance is not None
    assert found["mean_per_class"].value == pytest.approx(found["mean_per_class"].chance, abs=1e-12)


@pytest.mark.parametrize("benchmark", sorted(BENCHMARKS))
def test_not_a_number_is_an_error_and_not_a_perfect_score(benchmark: str, tmp_path: Path) -> None:
    with pytest.raises(NotANumber, match=r"constant answers NaN .*: its weights have diverged or are damaged"):
        metrics(Constant(float("nan")), benchmark, tmp_path)
    if benchmark not in PROBES:
        for damaged in (ConstantScore(float("nan")), ConstantPairs(float("nan"))):
            with pytest.raises(NotANumber, match="constant answers NaN"):
                metrics(damaged, benchmark, tmp_path)
    else:
        with pytest.raises(MissingVerb, match="constant has no verb 'encode_image': it offers answer, score"):
            metrics(ConstantPairs(), benchmark, tmp_path)
