"""What is left of pictures that go through a model and back: image tokenizers and autoencoders.

PSNR and squared error of every picture against the same picture as the model sees it (so neither its size nor its crop
counts), beside a picture of one colour, the mean: what a model knows that has one vector a picture. Where the model has
codes: how many it uses, how evenly, and how many stay the same when its own reconstruction is tokenized again.

N pictures, H height, W width, h rows and w columns of codes, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.capabilities.verbs import Verb
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.pixels.decode import decode
from diptych.data.pixels.thumbnail import png
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import rows_of
from diptych.evaluation.statistics import interval, mean_metric

REQUIRES = ("reconstruct",)
DATA = "scenes"

_EXACT = 1e-10
"""The smallest squared error, of values in [0, 1]: PSNR ends at 100 dB, where a picture is as good as exact."""


@dataclass(frozen=True)
class Settings:
    """Choices that change what is shown.

    Attributes:
        examples: how many pictures the report shows with their reconstructions, from the best to the worst.
    """

    examples: int = 8


def run(model: Any, source: Source, settings: Settings, records: Records) -> Outcome:
    """Reconstructs every picture."""
    errors_N2, samples = rows_of(model, lambda images: _errors(model, images), records.samples(source), records)
    error_N, flat_N = errors_N2.clamp(min=_EXACT).numpy().T
    psnr_N, flat_psnr_N = _decibels(error_N), _decibels(flat_N)
    records.add(
        *(
            SampleRecord(sample.key, values={"mse": float(error), "psnr": float(psnr), "gain": float(psnr - flat)})
            for sample, error, psnr, flat in zip(samples, error_N, psnr_N, flat_psnr_N, strict=True)
        )
    )
    metrics = _metrics(error_N, flat_N, records.seed)
    if Verb.TOKENIZE_IMAGE in model.verbs:
        metrics |= _code_metrics(model, samples, records)
    chosen = [samples[index] for index in _spread(psnr_N, settings.examples)]
    verbs = tuple(verb for verb in (Verb.RECONSTRUCT, Verb.TOKENIZE_IMAGE) if verb in model.verbs)
    return Outcome(metrics, {"reconstructions": _examples(model, chosen)}, verbs)


def _errors(model: Any, images: list[Image]) -> Tensor:
    """[N, 2]: mean squared error of the reconstruction, and of the picture of one colour; values in [0, 1]."""
    rows = []
    for seen, made in zip(model.as_seen(images), model.reconstruct(images), strict=True):
        true_HWC, found_HWC = (decode(one, "").astype(np.float64) / 255 for one in (seen, made))
        flat_HWC = true_HWC.mean((0, 1), keepdims=True)
        rows.append([np.square(found_HWC - true_HWC).mean(), np.square(flat_HWC - true_HWC).mean()])
    return torch.tensor(rows, dtype=torch.float64)


def _decibels(error_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """The peak signal-to-noise ratio of squared errors of values in [0, 1]."""
    out: NDArray[np.float64] = -10 * np.log10(error_N)
    return out


def _metrics(error_N: NDArray[np.float64], flat_N: NDArray[np.float64], seed: int) -> dict[str, Metric]:
    """The share of the pictures' variance that is explained, then decibels and errors, with intervals."""
    psnr_N, flat_psnr_N = _decibels(error_N), _decibels(flat_N)
    low, high = interval(error_N, flat_N, seed)
    explained = 1 - float(error_N.sum() / flat_N.sum())

    def number(values_N: NDArray[np.float64], chance: float | None = None) -> Metric:
        return replace(mean_metric(values_N.tolist(), chance=chance, seed=seed), unit="number")

    return {
        "psnr": number(psnr_N, float(flat_psnr_N.mean())),
        "variance_explained": Metric(explained, 1 - high, 1 - low, 0.0, len(error_N)),
        "gain_over_mean_colour_db": number(psnr_N - flat_psnr_N),
        "mean_colour_psnr": number(flat_psnr_N),
        "mse": number(error_N),
    }


def _code_metrics(model: Any, samples: Sequence[Sample], records: Records) -> dict[str, Metric]:
    """How the codes are used, and how many are the same after a second round."""
    codes_Nhw, _ = rows_of(model, model.tokenize_image, samples, records)
    again_Nhw, _ = rows_of(model, lambda images: model.tokenize_image(model.reconstruct(images)), samples, records)
    share_K = torch.bincount(codes_Nhw.flatten(), minlength=model.vocabulary).double() / codes_Nhw.numel()
    entropy = -torch.special.xlogy(share_K, share_K).sum()
    kept_N = (codes_Nhw == again_Nhw).flatten(1).double().mean(1)
    return {
        "code_perplexity": Metric(float(entropy.exp()), n=codes_Nhw.numel(), unit="number"),
        "codes_used": Metric(float((share_K > 0).double().mean()), n=model.vocabulary),
        "codes_kept_in_a_second_round": mean_metric(
            kept_N.tolist(), chance=float(share_K.square().sum()), seed=records.seed
        ),
    }


def _spread(psnr_N: NDArray[np.float64], most: int) -> list[int]:
    """Positions from the best picture to the worst, evenly over the ranks."""
    order = np.argsort(-psnr_N, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))
    return [int(order[place]) for place in places]


def _examples(model: Any, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Pictures as the model sees them beside what it makes of them."""
    images = [sample.image for sample in samples]
    if not images:
        return []
    errors_N2 = _errors(model, images).clamp(min=_EXACT).numpy()
    return [
        {"key": sample.key, "picture": png(seen), "reconstruction": png(made), "psnr": round(float(psnr), 2)}
        for sample, seen, made, psnr in zip(
            samples, model.as_seen(images), model.reconstruct(images), _decibels(errors_N2[:, 0]), strict=True
        )
    ]


def tiny_data(folder: Path) -> Source:
    """Twelve scenes."""
    return Scenes("test", 12, SceneConfig(size=32))
