"""What a model's vectors share with the texts, in bits, and how many bits of them that takes.

Three measurements, all fitted on one half of the pairs and taken on the other:

1. the InfoNCE bound on I(picture; text) for batches of several sizes, beside its cap log2 B;
2. rate-distortion curves of the picture's vector (Dubois et al. 2021): bits a picture against what is left to know of
   its text, and against squared error;
3. both while more and more of the pictures is hidden.

N pairs, D width, M of the half that is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import batched, encode_images
from diptych.evaluation.masked.masked_rate import masked_vectors, rate_at, resolution_of
from diptych.evaluation.metrics.information_bound import BatchBound, bound_at
from diptych.evaluation.metrics.representation_rate import Distortion, Fitting, Pairs, rate_distortion_curve
from diptych.evaluation.ranking.candidates import seeded_pool
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("encode_image", "encode_text")
SENTENCES = True
DATA = "scenes?min_objects=2"


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        batches: sizes of batch of the bound; those that either half of the pairs does not fill are left out.
        pictures: the most to look at; of more a fixed, seeded part.
        text_betas: points of the curve about texts: what a bit of uncertainty may cost in bits of rate.
        error_betas: points of the curve of squared error: what the whole variance may cost.
        curve_batch: the most texts among which the curve asks.
        channels: the most principal axes of the vectors that are coded.
        steps: of Adam for each curve.
        masking: shares of each picture that are hidden; nothing hidden is measured too. Each encodes all pictures anew.
        cells: along each side of a picture, for hiding.
        step: the step at which the masked pictures' vectors are rounded, in deviations of the whole pictures' vectors.
    """

    batches: tuple[int, ...] = (8, 32, 128, 512)
    pictures: int = 2000
    text_betas: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    error_betas: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0)
    curve_batch: int = 128
    channels: int = 32
    steps: int = 200
    masking: tuple[float, ...] = (0.25, 0.5, 0.75)
    cells: int = 8
    step: float = 1.0


@dataclass(frozen=True)
class Halves:
    """Pairs and which of them are fitted to and which are measured: no pair is in both."""

    image_ND: Tensor
    text_ND: Tensor
    samples: list[Sample]
    fit: Tensor
    test: Tensor

    @property
    def size(self) -> int:
        """Pairs in the smaller half."""
        return min(len(self.fit), len(self.test))

    def pairs(self, which: Tensor, image_ND: Tensor | None = None) -> Pairs:
        """Some pairs; with other vectors of the pictures where they are given."""
        return Pairs((self.image_ND if image_ND is None else image_ND)[which], self.text_ND[which])

    def bound(self, batch: int, seed: int, image_ND: Tensor | None = None) -> BatchBound:
        """The bound at a size of batch."""
        fit, test = self.pairs(self.fit, image_ND), self.pairs(self.test, image_ND)
        return bound_at(fit.image_ND @ fit.text_ND.T, test.image_ND @ test.text_ND.T, batch, seed)


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Measures all three.

    Raises:
        ConfigError: a batch of less than two.
        DataError: too few pairs for the smallest batch.
    """
    halves = _halves(model, seeded_pool(source, settings.pictures, records.seed), records)
    sizes = _sizes(settings.batches, halves, source.name)
    bounds = [halves.bound(size, records.seed) for size in sizes]
    batch = max([size for size in sizes if size <= settings.curve_batch] or sizes[:1])
    metrics = _identified(bounds, halves, records)
    metrics |= {f"mutual_information_bits_{one.batch}": one.bound for one in bounds}
    metrics |= {f"cap_bits_{one.batch}": Metric(one.cap, n=one.bound.n, unit="number") for one in bounds}
    curves, of_curves = _curves(halves, settings, batch, records.seed)
    masked, of_masked = _masked(model, halves, settings, batch, records.seed)
    bound_rows = [{"batch": one.batch, "bits": one.bound.value, "cap": one.cap, "scale": one.scale} for one in bounds]
    extras = {"rate_distortion": {"batch": batch, "bound": bound_rows, **curves, "masking": masked}}
    return Outcome(metrics | of_curves | of_masked, extras)


def _halves(model: Predictor, source: Source, records: Records) -> Halves:
    """One caption a picture, encoded, in halves by the order of a hash of the key."""
    wanted = [sample for sample in records.samples(source) if records.has_caption(sample)]
    image_ND, samples = encode_images(model, wanted, records)
    texts = [_one_text(sample, records.seed) for sample in samples]
    text_ND = torch.cat([checked(model.encode_text(some), model, "the captions") for some in batched(texts)])
    order = sorted(range(len(samples)), key=lambda i: hash_to_int("information", records.seed, samples[i].key))
    middle = len(order) // 2
    fit, test = torch.tensor(order[:middle]).long(), torch.tensor(order[middle:]).long()
    return Halves(image_ND.double().cpu(), text_ND.double().cpu(), samples, fit, test)


def _one_text(sample: Sample, seed: int) -> str:
    texts = [text for text in sample.texts if text.strip()]
    return texts[hash_to_int("caption", seed, sample.key) % len(texts)]


def _sizes(batches: Sequence[int], halves: Halves, name: str) -> list[int]:
    if not batches or min(batches) < 2:
        raise ConfigError(f"a bound compares a pair with others: batches of 2 or more, got {tuple(batches)}")
    sizes = sorted({size for size in batches if size <= halves.size})
    if not sizes:
        raise DataError(
            f"{name}: {len(halves.samples)} pictures with a caption make halves of {halves.size}, fewer than the "
            f"smallest batch of {min(batches)}: give more data or smaller batches"
        )
    return sizes


def _identified(bounds: Sequence[BatchBound], halves: Halves, records: Records) -> dict[str, Metric]:
    """How often the own text scores highest among B, with a record for each picture that is measured."""
    test = [halves.samples[index] for index in halves.test.tolist()]
    values: dict[str, dict[str, float]] = {sample.key: {} for sample in test}
    metrics = {}
    for one in bounds:
        keys = [test[index].key for index in one.pairs]
        name = f"identified_of_{one.batch}"
        for label, hits in ((name, one.found.strict(1)), (f"{name}_expected", one.found.expected(1))):
            metrics[label] = mean_metric(hits.tolist(), keys, 1 / one.batch, records.seed)
        sums, times = dict.fromkeys(keys, 0.0), dict.fromkeys(keys, 0)
        for key, hit in zip(keys, one.found.strict(1).tolist(), strict=True):
            sums[key], times[key] = sums[key] + hit, times[key] + 1
        for key, count in times.items():
            values[key][name] = sums[key] / count
    records.add(*(SampleRecord(sample.key, values=values[sample.key]) for sample in test))
    metrics["tie_rate"] = Metric(bounds[-1].found.tie_rate, n=len(test))
    return metrics


def _curves(
    halves: Halves, settings: Settings, batch: int, seed: int
) -> tuple[dict[str, list[dict[str, float]]], dict[str, Metric]]:
    """Both curves, and the last point of the first as metrics."""
    fitting = Fitting(batch, settings.channels, settings.steps, seed=seed)
    fit, test = halves.pairs(halves.fit), halves.pairs(halves.test)
    wanted: list[tuple[Distortion, tuple[float, ...]]] = [
        ("text", settings.text_betas),
        ("error", settings.error_betas),
    ]
    found = {name: rate_distortion_curve(fit, test, betas, name, fitting) for name, betas in wanted}
    metrics = {}
    for point in found["text"]:
        metrics[f"rate_bits_beta_{point.beta:g}"] = Metric(point.rate, n=len(halves.test), unit="number")
        metrics[f"uncertainty_bits_beta_{point.beta:g}"] = Metric(point.distortion, n=len(halves.test), unit="number")
    return {name: [asdict(point) for point in points] for name, points in found.items()}, metrics


def _masked(
    model: Predictor, halves: Halves, settings: Settings, batch: int, seed: int
) -> tuple[list[dict[str, float]], dict[str, Metric]]:
    """Rate and bound for each share that is hidden, beginning with none."""

    def encode(images: list[Image]) -> Tensor:
        rows = [checked(model.encode_image(some), model, "masked pictures") for some in batched(images)]
        return torch.cat(rows).double().cpu()

    images = [sample.image for sample in halves.samples]
    resolution = resolution_of(halves.image_ND[halves.fit], settings.channels, settings.step)
    vectors = [(0.0, halves.image_ND)]
    shares = [share for share in settings.masking if share > 0]
    vectors += [(one.share, one.z_ND) for one in masked_vectors(encode, images, shares, settings.cells, seed)]
    rows, metrics = [], {}
    for share, z_ND in vectors:
        rate = rate_at(z_ND[halves.fit], z_ND[halves.test], resolution, seed)
        bound = halves.bound(batch, seed, z_ND).bound
        rows.append({"share": share, "rate": rate.value, "bits": bound.value})
        metrics[f"rate_bits_hidden_{100 * share:g}"] = rate
        metrics[f"mutual_information_bits_hidden_{100 * share:g}"] = bound
    return rows, metrics


def tiny_data(folder: Path) -> Source:
    """Forty scenes."""
    return Scenes("test", 40, SceneConfig(size=32, min_objects=2))
