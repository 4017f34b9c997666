"""The information benchmark on predictors whose vectors share a known amount with the texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError, NotANumber
from diptych.core.records.results import Metric, Result, read_samples
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.evaluation.benchmarks import information
from diptych.evaluation.runner import evaluate

FAST = {"batches": [8, 32, 64], "curve_batch": 64, "text_betas": [2.0, 16.0], "error_betas": [10.0], "steps": 120}


class Colours(Predictor):
    """A picture's mean colour and a text that says it in numbers, both as one of the corners of a simplex of kinds."""

    VERBS = ("encode_image", "encode_text")
    name = "colours"

    def __init__(self, kinds: int) -> None:
        self.module = nn.Linear(1, 1)
        self.kinds = kinds

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        brightest = torch.tensor([int(visual.pixels_HWC.max()) for visual in visuals])
        return F.one_hot(brightest % self.kinds, self.kinds).float()

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return F.one_hot(torch.tensor([int(text) % self.kinds for text in texts]), self.kinds).float()

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls(4)


class Kinds:
    """Pictures of one brightness, with a text that says which; the brightness is all there is to know."""

    name = "kinds"

    def __init__(self, number: int, caption: str = "{}") -> None:
        self.levels = np.random.default_rng(0).integers(160, 224, number)
        self.caption = caption

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, index: int) -> Sample:
        pixels = np.full((8, 8, 3), self.levels[index], np.uint8)
        texts = (self.caption.format(self.levels[index]),)
        return Sample(key=f"{index:05d}", visuals=(Image(pixels_HWC=pixels),), texts=texts)

    def keys(self) -> Sequence[str]:
        return [f"{index:05d}" for index in range(len(self))]

    def fingerprint(self) -> str:
        return f"kinds{len(self)}"


def evaluated(kinds: int, number: int = 400, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(
        Colours(kinds), ["information"], Kinds(number), folder=folder, settings={"information": FAST | settings}
    )
    return result


@pytest.fixture(scope="module")
def four() -> Result:
    return evaluated(4, 1200)


def test_four_kinds_are_two_bits_at_every_batch_that_can_show_them(four: Result) -> None:
    assert four.metrics["mutual_information_bits_64"].value == pytest.approx(2.0, abs=0.06)
    assert four.metrics["mutual_information_bits_8"].value < four.metrics["mutual_information_bits_32"].value < 2.0
    for batch in (8, 32, 64):
        assert four.metrics[f"cap_bits_{batch}"].value == math.log2(batch)
        found = four.metrics[f"mutual_information_bits_{batch}"]
        assert found.low <= found.value <= found.high <= math.log2(batch)  # type: ignore[operator]
        assert found.unit == "number"


def test_two_bits_of_rate_buy_two_bits_of_knowledge(four: Result) -> None:
    curve = four.extras["rate_distortion"]["text"]
    assert [point["beta"] for point in curve] == [2.0, 16.0]
    # Four corners lie in three axes that are coded one by one, so they take more than their two bits.
    assert 2.0 - 0.05 < curve[-1]["rate"] < 4.5
    assert curve[-1]["distortion"] == pytest.approx(6.0 - 2.0, abs=0.1)
    assert four.metrics["rate_bits_beta_16"] == Metric(curve[-1]["rate"], n=600, unit="number")
    assert four.extras["rate_distortion"]["batch"] == 64


def test_identification_is_chance_among_the_alike(four: Result) -> None:
    for batch in (8, 64):
        expected = four.metrics[f"identified_of_{batch}_expected"]
        assert expected.chance == 1 / batch
        alike = 4 / batch * (1 - 0.75**batch)  # 1 / (1 + those of the same kind), on average
        assert expected.value == pytest.approx(alike, abs=0.03)
    assert four.metrics["identified_of_64"].value < 0.01
    assert four.metrics["tie_rate"].value > 0.95


def test_grey_pictures_share_less_and_take_fewer_bits() -> None:
    """Brightest pixels stand for the picture: they stay until the last cell is hidden, then nothing is left."""
    result = evaluated(4, 400, masking=[0.5, 1.0])
    rates = [result.metrics[f"rate_bits_hidden_{share}"].value for share in (0, 50, 100)]
    bits = [result.metrics[f"mutual_information_bits_hidden_{share}"].value for share in (0, 50, 100)]
    assert rates[0] == pytest.approx(rates[1]) and bits[0] == pytest.approx(bits[1])
    assert bits[0] > 1.9
    assert rates[2] < 0.01 and bits[2] == pytest.approx(0.0, abs=1e-6)
    assert [row["share"] for row in result.extras["rate_distortion"]["masking"]] == [0.0, 0.5, 1.0]


def test_only_one_half_is_measured_and_each_of_it_has_a_line(tmp_path: Path) -> None:
    result = evaluated(64, 101, tmp_path, batches=[8, 50, 51], masking=[])
    lines = list(read_samples(tmp_path / "information"))
    assert result.counts.evaluated == len(lines) == 51
    assert "identified_of_50" in result.metrics and "identified_of_51" not in result.metrics  # the fit half holds 50
    assert all(0 <= value <= 1 for line in lines for value in line.values.values())
    assert {line.key for line in lines} < set(Kinds(101).keys())


def test_it_repeats_itself_and_depends_on_the_seed() -> None:
    first = evaluated(16, 200, masking=[])
    assert evaluated(16, 200, masking=[]).metrics == first.metrics
    (other,) = evaluate(
        Colours(16), ["information"], Kinds(200), seed=1, settings={"information": FAST | {"masking": []}}
    )
    assert other.metrics["mutual_information_bits_8"] != first.metrics["mutual_information_bits_8"]


def test_a_model_that_says_nothing_shares_nothing() -> None:
    """One kind of vector: every comparison is a tie, no bit is shared and none is needed."""
    found = evaluated(1, 200, masking=[0.5]).metrics
    for name in ("mutual_information_bits_8", "mutual_information_bits_64", "mutual_information_bits_hidden_50"):
        assert found[name].value == pytest.approx(0.0, abs=1e-9)
    assert found["identified_of_8"].value == 0.0
    assert found["identified_of_8_expected"].value == pytest.approx(1 / 8, abs=1e-12)
    assert found["tie_rate"].value == 1.0
    assert found["rate_bits_beta_16"].value == found["rate_bits_hidden_0"].value == 0.0
    assert found["uncertainty_bits_beta_16"].value == pytest.approx(6.0, abs=1e-5)


def test_damaged_weights_are_an_error() -> None:
    class Damaged(Colours):
        def encode_text(self, texts: Sequence[str]) -> Tensor:
            return super().encode_text(texts) * float("nan")

    with pytest.raises(NotANumber, match=r"colours answers NaN \(at the captions\)"):
        evaluate(Damaged(4), ["information"], Kinds(100))


def test_one_caption_of_each_picture_is_taken() -> None:
    samples = [Sample(key=f"{i}", visuals=(), texts=("one", " ", "two")) for i in range(50)]
    texts = [information._one_text(sample, 0) for sample in samples]
    assert set(texts) == {"one", "two"} and 10 < texts.count("one") < 40
    assert texts == [information._one_text(sample, 0) for sample in samples]


def test_too_few_pairs_and_batches_of_one_are_refused() -> None:
    with pytest.raises(DataError, match="kinds: 12 pictures with a caption make halves of 6, fewer than the smallest"):
        evaluated(4, 12)
    with pytest.raises(ConfigError, match="batches of 2 or more"):
        evaluated(4, 100, batches=[1, 8])
    with pytest.raises(ConfigError, match="betas above 0"):
        evaluated(4, 100, text_betas=[0.0])


def test_pictures_without_a_caption_are_recorded(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        evaluate(Colours(4), ["information"], Kinds(40, "  "), folder=tmp_path)
    assert {line.status for line in read_samples(tmp_path / "information")} == {"no caption"}
