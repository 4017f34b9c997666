"""Text to image: how far the made pictures, as a set, are from real ones.

FID (Frechet distance) and KID (kernel distance) between the features of a source's pictures and of pictures made of its
captions, one each. The features are of a frozen network that the user names, and that the report states: numbers of two
networks have nothing to do with each other, and neither have those of unequal numbers of pictures.

The same distances between two halves of the real pictures say what is no difference; the Frechet distance is larger for
fewer pictures. The one to pictures of one colour each, the mean of a real one, says what a great difference is, and
`distance_closed` is 1 less the one Frechet distance over the other.

N pictures, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.capabilities.generator import OWN_WAY
from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.pixels.decode import decode
from diptych.data.pixels.thumbnail import png
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import batched, rows_of
from diptych.evaluation.generation.feature_network import FeatureNetwork, feature_network
from diptych.evaluation.generation.generated_pictures import TOGETHER, painted
from diptych.evaluation.metrics.frechet import frechet_distance
from diptych.evaluation.metrics.kernel_distance import kernel_distances
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("generate_image",)
DATA = "scenes"

ENOUGH = 2048
"""Fewer pictures give a Frechet distance that says more about their number than about them."""
_FEWEST = 4
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        features: the network: a model with `encode_image`, or a vision model's `transformers` folder.
        sampling: how pictures are drawn.
        subsets, subset_size: of the kernel distance; no more than half of the pictures are in a subset.
        examples: how many pictures the report shows.
    """

    features: str = ""
    sampling: ImageSampling = OWN_WAY
    subsets: int = 100
    subset_size: int = 1000
    examples: int = 8

    def __post_init__(self) -> None:
        if self.subsets < 1 or self.subset_size < 2:
            raise ConfigError(
                f"generated_distribution: {self.subsets} subsets of {self.subset_size} pictures: give 1 of 2 at least"
            )


@dataclass(frozen=True)
class Prompt:
    """A caption of a picture."""

    key: str
    text: str
    sample: Sample


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Makes a picture of a caption of every sample, and compares the sets.

    Raises:
        ConfigError: no network is named.
        DataError: fewer than four pictures with captions.
    """
    network = feature_network(settings.features, model.device)
    captioned = [sample for sample in records.samples(source) if records.has_caption(sample)]
    real, kept = rows_of(network, network.features, captioned, records)
    prompts = [_prompt(sample, records.seed) for sample in kept]
    made_ND, rows = _made(model, network, prompts, settings, records)
    real_ND = real.double().numpy()
    if min(len(real_ND), len(made_ND)) < _FEWEST:
        raise DataError(f"{len(real_ND)} real and {len(made_ND)} made pictures: {_FEWEST} of each are the least")
    extras = {"notes": _notes(network, real_ND, made_ND), "pictures": rows, "pictures_title": "Made of captions"}
    metrics = _metrics(real_ND, made_ND, settings, records.seed)
    flat_ND = network.features([_one_colour(sample) for sample in kept]).double().numpy()
    far = frechet_distance(real_ND, flat_ND)
    metrics["frechet_distance_of_one_colour"] = Metric(far, n=len(flat_ND), unit="number")
    closed = 1 - metrics["frechet_distance"].value / far if far else 0.0
    return Outcome({"distance_closed": Metric(closed, chance=0.0, n=len(made_ND)), **metrics}, extras)


def _one_colour(sample: Sample) -> Image:
    """A picture of a sample's mean colour, in its size."""
    pixels_HWC = decode(sample.image, sample.key)
    colour_3 = pixels_HWC.mean((0, 1)).round().astype(np.uint8)
    return Image(pixels_HWC=np.broadcast_to(colour_3, pixels_HWC.shape).copy())


def _prompt(sample: Sample, seed: int) -> Prompt:
    """One of a picture's captions, by a hash of its key."""
    texts = [text for text in sample.texts if text.strip()]
    return Prompt(sample.key, texts[hash_to_int("caption", seed, sample.key) % len(texts)], sample)


def _made(
    model: Predictor, network: FeatureNetwork, prompts: Sequence[Prompt], settings: Settings, records: Records
) -> tuple[Array, list[dict[str, Any]]]:
    """[N, D] features of the made pictures, and rows for the report."""
    features: list[torch.Tensor] = []
    rows: list[dict[str, Any]] = []
    for some in batched(painted(model, prompts, settings.sampling, records), TOGETHER):
        found = checked(network.features([image for _, image in some]), network, "the made pictures")
        features.append(found.double())
        for prompt, image in some:
            records.add(SampleRecord(prompt.key, prompt=prompt.text, values={"made": 1.0}))
            if len(rows) < settings.examples:
                rows.append(_row(prompt, image))
    array: Array = torch.cat(features).numpy() if features else np.zeros((0, 1))
    return array, rows


def _row(prompt: Prompt, image: Image) -> dict[str, Any]:
    pictures = [
        {"title": "made", "png": png(image)},
        {"title": f"real: {prompt.text}", "png": png(prompt.sample.image, prompt.key)},
    ]
    return {"key": prompt.key, "caption": prompt.text, "images": pictures}


def _metrics(real_ND: Array, made_ND: Array, settings: Settings, seed: int) -> dict[str, Metric]:
    """Both distances, the same between halves of the real pictures, and how many pictures there are."""
    order_N = np.random.Generator(np.random.PCG64(hash_to_int("halves", seed))).permutation(len(real_ND))
    half = len(real_ND) // 2
    halves = real_ND[order_N[:half]], real_ND[order_N[half : 2 * half]]
    fewest = min(len(real_ND), len(made_ND))

    def kernel(first_ND: Array, second_ND: Array) -> Metric:
        size = max(min(settings.subset_size, min(len(first_ND), len(second_ND)) // 2), 2)
        found = kernel_distances(first_ND, second_ND, settings.subsets, size, seed)
        return replace(mean_metric(found, seed=seed), n=min(len(first_ND), len(second_ND)), unit="number")

    return {
        "frechet_distance": Metric(frechet_distance(real_ND, made_ND), n=fewest, unit="number"),
        "kernel_distance": kernel(real_ND, made_ND),
        "frechet_distance_of_real_halves": Metric(frechet_distance(*halves), n=half, unit="number"),
        "kernel_distance_of_real_halves": kernel(*halves),
        "real_pictures": Metric(float(len(real_ND)), n=len(real_ND), unit="number"),
        "made_pictures": Metric(float(len(made_ND)), n=len(made_ND), unit="number"),
    }


def _notes(network: FeatureNetwork, real_ND: Array, made_ND: Array) -> list[str]:
    fewest, width = min(len(real_ND), len(made_ND)), real_ND.shape[1]
    notes = [
        f"Features: {network.name}, {width} numbers a picture. {len(real_ND):,} real pictures, {len(made_ND):,} made."
    ]
    if fewest < ENOUGH:
        notes.append(
            f"Warning: fewer than {ENOUGH:,} pictures. The Frechet distance is biased upward then: compare it with "
            f"that of as many pictures only. The kernel distance has no bias."
        )
    return notes


def tiny_data(folder: Path) -> Source:
    """Twelve scenes."""
    return Scenes("test", 12, SceneConfig(size=32))
