"""The reconstruction benchmark on models of which every number is known beforehand."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

from diptych.capabilities.predictor import Predictor
from diptych.core.records.results import Metric, Result, read_samples
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.evaluation.report import write_report
from diptych.evaluation.runner import evaluate

SIDE = 8


class Given:
    """A source of samples that are given."""

    name = "given"

    def __init__(self, pictures: Sequence[Image]) -> None:
        self._samples = [Sample(f"picture {i}", (picture,)) for i, picture in enumerate(pictures)]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def keys(self) -> list[str]:
        return [sample.key for sample in self._samples]

    def fingerprint(self) -> str:
        return "given"


def pictures(count: int = 6) -> list[Image]:
    """Pictures of values 50 to 200, so that a difference of 20 stays in range."""
    rng = np.random.default_rng(0)
    return [Image(pixels_HWC=rng.integers(50, 200, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(count)]


class Toy(Predictor):
    """Adds `error` to every value, or gives the mean colour; codes are the first values of a picture."""

    VERBS = ("reconstruct", "tokenize_image")
    name = "toy"
    vocabulary = 256

    def __init__(self, error: int | None = 0) -> None:
        self.module = nn.Linear(1, 1)
        self.error = error

    def as_seen(self, visuals: Sequence[Image]) -> list[Image]:
        return list(visuals)

    def reconstruct(self, visuals: Sequence[Image]) -> list[Image]:
        return [Image(pixels_HWC=self._made(visual)) for visual in visuals]

    def _made(self, visual: Image) -> Any:
        assert visual.pixels_HWC is not None
        pixels = visual.pixels_HWC.astype(np.float64)
        made = np.zeros_like(pixels) + pixels.mean((0, 1)) if self.error is None else pixels + self.error
        return made.round().astype(np.uint8)

    def tokenize_image(self, visuals: Sequence[Image]) -> Tensor:
        return torch.stack([torch.tensor(visual.pixels_HWC)[:2, :2, 0].long() for visual in visuals])

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls()


class Mute(Toy):
    """Without codes."""

    VERBS = ("reconstruct",)


def measured(model: Predictor, images: Sequence[Image] | None = None, folder: Path | None = None) -> Result:
    (result,) = evaluate(model, ["reconstruction"], Given(images or pictures()), folder=folder)
    return result


def test_a_known_error_gives_its_decibels_and_its_share_of_the_variance() -> None:
    metrics = measured(Toy(20)).metrics
    error = (20 / 255) ** 2
    values = np.stack([one.pixels_HWC for one in pictures()]) / 255  # type: ignore[type-var]
    variance = np.square(values - values.mean((1, 2), keepdims=True)).mean((1, 2, 3))
    assert metrics["mse"].value == pytest.approx(error)
    assert metrics["psnr"].value == pytest.approx(-10 * math.log10(error))
    assert metrics["psnr"].low == pytest.approx(metrics["psnr"].high)
    assert metrics["psnr"].chance == pytest.approx((-10 * np.log10(variance)).mean())
    assert metrics["mean_colour_psnr"].value == metrics["psnr"].chance
    assert metrics["gain_over_mean_colour_db"].value == pytest.approx((10 * np.log10(variance / error)).mean())
    explained = metrics["variance_explained"]
    assert explained.value == pytest.approx(1 - error / variance.mean())
    assert explained.low is not None and explained.high is not None
    assert explained.low < explained.value < explained.high < 1


def test_the_mean_colour_explains_nothing_and_gains_nothing() -> None:
    metrics = measured(Toy(None)).metrics
    assert metrics["variance_explained"].value == pytest.approx(0.0, abs=1e-3)  # whole numbers: not exactly the mean
    assert metrics["gain_over_mean_colour_db"].value == pytest.approx(0.0, abs=0.01)


def test_exact_reconstructions_are_worth_a_hundred_decibels_and_not_infinitely_many() -> None:
    flat = Image(pixels_HWC=np.full((SIDE, SIDE, 3), 90, np.uint8))
    metrics = measured(Toy(0), [*pictures(), flat]).metrics
    assert metrics["psnr"].value == pytest.approx(100.0)
    assert metrics["variance_explained"].value == pytest.approx(1.0)
    assert all(math.isfinite(metric.value) for metric in metrics.values())


def test_code_usage_is_counted_over_all_pictures() -> None:
    images = pictures()
    metrics = measured(Toy(0), images).metrics
    codes = Toy().tokenize_image(images).flatten()
    share = torch.bincount(codes, minlength=256).double() / len(codes)
    entropy = -sum(float(p) * math.log(float(p)) for p in share if p > 0)
    assert metrics["code_perplexity"] == Metric(pytest.approx(math.exp(entropy)), n=24, unit="number")
    assert metrics["codes_used"] == Metric(len(codes.unique()) / 256, n=256)
    kept = metrics["codes_kept_in_a_second_round"]
    assert (kept.value, kept.chance) == (1.0, pytest.approx(float(share.square().sum())))
    assert measured(Toy(20), images).metrics["codes_kept_in_a_second_round"].value < 0.1


def test_a_model_without_codes_is_measured_by_its_pictures_alone(tmp_path: Path) -> None:
    result = measured(Mute(5), folder=tmp_path)
    assert result.verbs == {"reconstruct": "native"}
    assert not [name for name in result.metrics if "code" in name]
    records = list(read_samples(tmp_path / "reconstruction"))
    assert [record.key for record in records] == Given(pictures()).keys()
    assert all(record.values["mse"] == pytest.approx((5 / 255) ** 2) for record in records)


def test_a_picture_that_cannot_be_decoded_is_counted_and_left_out() -> None:
    class Decoding(Toy):
        def as_seen(self, visuals: Sequence[Image]) -> list[Image]:
            from diptych.data.pixels.decode import decode

            return [Image(pixels_HWC=decode(visual, visual.name)) for visual in visuals]

    result = measured(Decoding(20), [*pictures(), Image(encoded=b"no picture")])
    assert (result.counts.evaluated, result.counts.failed) == (6, 1)
    assert result.metrics["psnr"].n == 6


def test_the_report_shows_pictures_beside_their_reconstructions_from_the_best_to_the_worst(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    spreads = [0.5 * 1.25**index for index in range(20)]
    values = [128 + rng.normal(0, spread, (SIDE, SIDE, 3)) for spread in spreads]
    noisy = [Image(pixels_HWC=one.clip(0, 255).astype(np.uint8)) for one in values]
    result = measured(Toy(None), noisy, tmp_path / "evaluation")
    shown = result.extras["reconstructions"]
    assert len(shown) == 8
    assert [one["psnr"] for one in shown] == sorted((one["psnr"] for one in shown), reverse=True)
    assert (shown[0]["key"], shown[-1]["key"]) == ("picture 0", "picture 19")
    place = {f"picture {i}": image for i, image in enumerate(noisy)}
    for one in shown:
        assert np.array_equal(_pixels(one["picture"]), place[one["key"]].pixels_HWC)  # type: ignore[arg-type]
        assert np.array_equal(_pixels(one["reconstruction"]), Toy(None)._made(place[one["key"]]))
    page = write_report([tmp_path]).read_text(encoding="utf-8")
    assert all(one["picture"] in page and one["reconstruction"] in page for one in shown)
    assert f"{shown[-1]['psnr']} dB" in page
    low, high = result.metrics["psnr"].low, result.metrics["psnr"].high
    assert f"{low:.2f}".rstrip("0").rstrip(".") + " to " + f"{high:.2f}".rstrip("0").rstrip(".") in page


def test_an_address_in_a_result_that_is_no_picture_is_left_out_of_the_page(tmp_path: Path) -> None:
    from diptych.core.records.results import write_result

    result = measured(Toy(20), folder=tmp_path / "evaluation")
    result.extras["reconstructions"][0]["picture"] = "https://example.org/spy.png"
    write_result(result, tmp_path / "evaluation" / "reconstruction")
    assert "example.org" not in write_report([tmp_path]).read_text(encoding="utf-8")


def _pixels(address: str) -> Any:
    assert address.startswith("data:image/png;base64,")
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
