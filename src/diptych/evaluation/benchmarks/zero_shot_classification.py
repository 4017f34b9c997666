"""Zero-shot classification with prompt ensembles.

As CLIP does it: every template of a class is embedded and normalised, their mean is normalised again, and a picture is
of the class that it is nearest to. A model that only scores gets the mean score over the templates. Top-1, top-5 and
the mean over classes; ties count against in the strict figures and are shared out in the expected ones.

N pictures, P prompts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import checked, encode_images, rows_of, scores_by_vectors
from diptych.evaluation.metrics.ranking import ranking
from diptych.evaluation.statistics import class_mean_metric, mean_metric
from diptych.evaluation.templates import templates

REQUIRES = ("score",)
DATA = "scenes?objects=1"


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        templates: a named set ("name", "plain", "scenes", "openai_7"), one template with {}, or a file of them; "" for
            "scenes" on the scenes, "name" for a model of fixed class names, "plain" otherwise.
        underscores: whether underscores of class names are read as spaces.
    """

    templates: str = ""
    underscores: bool = True


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Classifies every picture.

    Raises:
        DataError: the data has fewer than two classes.
    """
    samples = [sample for sample in records.samples(source) if _has_class(sample, records)]
    names = sorted({str(sample.meta["class"]) for sample in samples})
    if len(names) < 2:
        raise DataError(f"{source.name} has {len(names)} class(es): classification needs two or more")
    prompts = templates(settings.templates or _default(model, source))
    spoken = [name.replace("_", " ") if settings.underscores else name for name in names]
    scores_NC, samples = _scores(model, samples, spoken, prompts, records)
    truth_N = np.array([names.index(str(sample.meta["class"])) for sample in samples])
    metrics = _metrics(scores_NC, truth_N, samples, names, records)
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (truth_N, scores_NC.argmax(1)), 1)
    extras: dict[str, Any] = {
        "confusion": {"classes": names, "matrix": confusion.tolist()},
        "prompts": [prompt.format(spoken[0]) for prompt in prompts],
    }
    return Outcome(metrics, extras)


def _has_class(sample: Sample, records: Records) -> bool:
    if sample.meta.get("class") is not None:
        return True
    records.fail(BadSample(sample.key, "no class"))
    return False


def _default(model: Predictor, source: Source) -> str:
    if Verb.ENCODE_TEXT not in model.VERBS and Verb.ENCODE_IMAGE in model.VERBS:
        return "name"  # a classifier scores its own class names and no sentences
    return "scenes" if isinstance(source, Scenes) else "plain"


def _scores(
    model: Predictor, samples: Sequence[Sample], names: Sequence[str], prompts: Sequence[str], records: Records
) -> tuple[NDArray[np.float32], list[Sample]]:
    """[N, C] and the samples it is of."""
    if scores_by_vectors(model):
        image_ND, kept = encode_images(model, samples, records)
        scores_NC = image_ND @ class_vectors(model, names, prompts).T
    else:

        def mean_score(images: list[Image]) -> Tensor:
            texts = [prompt.format(name) for prompt in prompts for name in names]  # one call: pictures are read once
            by_prompt_NPC = model.score(images, texts).reshape(len(images), len(prompts), len(names))
            mean_NC: Tensor = by_prompt_NPC.mean(1)
            return mean_NC

        scores_NC, kept = rows_of(model, mean_score, samples, records)
    array: NDArray[np.float32] = scores_NC.float().cpu().numpy()
    return array, kept


def class_vectors(model: Any, names: Sequence[str], prompts: Sequence[str]) -> Tensor:
    """[C, D]: the normalised mean of each class's normalised prompt embeddings."""
    vectors = [model.encode_text([prompt.format(name) for prompt in prompts]).mean(0) for name in names]
    return checked(F.normalize(torch.stack(vectors), dim=-1), model, "the class names")


def _metrics(
    scores_NC: NDArray[np.float32], truth_N: NDArray[np.int64], samples: Sequence[Sample], names: Sequence[str],
    records: Records,
) -> dict[str, Metric]:  # fmt: skip
    classes = len(names)
    found = ranking(scores_NC, truth_N[:, None] == np.arange(classes))
    top1 = found.strict(1)
    predicted = scores_NC.argmax(1)
    records.add(
        *(
            SampleRecord(sample.key, output=names[predicted[i]], values={"top1": float(top1[i])})
            for i, sample in enumerate(samples)
        )
    )
    metrics = {}
    for k in (1, 5) if classes > 5 else (1,):
        metrics[f"top{k}"] = mean_metric(found.strict(k).tolist(), None, k / classes, records.seed)
        metrics[f"top{k}_expected"] = mean_metric(found.expected(k).tolist(), None, k / classes, records.seed)
    metrics["mean_per_class"] = class_mean_metric(top1.tolist(), truth_N.tolist(), 1 / classes, records.seed)
    metrics["tie_rate"] = Metric(found.tie_rate, n=len(samples))
    return metrics


def tiny_data(folder: Path) -> Source:
    """Thirty scenes of one object."""
    return Scenes("test", 30, SceneConfig(size=32, objects=1))
