"""Zero-shot classification with prompt ensembles.

As CLIP does it: every template of a class is embedded and normalised, their mean is normalised again, and a picture is
of the class that it is nearest to. A model that only scores gets the mean score over the templates. Top-1, top-5 and
the mean over classes; ties count against in the strict figures and are shared out in the expected ones. Where the score
is a text's likelihood, top-1 comes a second time, corrected for what is likely without any picture.

N pictures, P prompts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diptych.capabilities.encodings import class_vectors, scores_by_vectors
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable, Verb
from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.blind_likelihood import (
    ALPHA,
    SUFFIX,
    blind_scores,
    check_alpha,
    correction_note,
    scores_by_text_likelihood,
)
from diptych.evaluation.comparability import in_single, require
from diptych.evaluation.encoding import encode_images, rows_of
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
        blind_alpha: weight of log p(text) in the correction of text likelihoods; 0 for no corrected numbers.
    """

    templates: str = ""
    underscores: bool = True
    blind_alpha: float = ALPHA

    def __post_init__(self) -> None:
        check_alpha(self.blind_alpha, "zero_shot_classification")


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Classifies every picture.

    Raises:
        DataError: the data has fewer than two classes.
        NotComparable: the model's score does not compare the texts of one picture.
    """
    require(model, Comparable.TEXTS, "classification by texts")
    samples = [sample for sample in records.samples(source) if _has_class(sample, records)]
    names = sorted({str(sample.meta["class"]) for sample in samples})
    if len(names) < 2:
        raise DataError(f"{source.name} has {len(names)} class(es): classification needs two or more")
    prompts = templates(settings.templates or _default(model, source))
    spoken = [name.replace("_", " ") if settings.underscores else name for name in names]
    scores_NC, samples = _scores(model, samples, spoken, prompts, records)
    truth_N = np.array([names.index(str(sample.meta["class"])) for sample in samples])
    blind_C = _blind(model, spoken, prompts, settings.blind_alpha)
    corrected_NC = scores_NC - blind_C if blind_C is not None else None
    metrics = _metrics(scores_NC, corrected_NC, truth_N, samples, names, records)
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (truth_N, scores_NC.argmax(1)), 1)
    extras: dict[str, Any] = {
        "confusion": {"classes": names, "matrix": confusion.tolist()},
        "prompts": [prompt.format(spoken[0]) for prompt in prompts],
    } | ({"notes": [correction_note(settings.blind_alpha)]} if blind_C is not None else {})
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
    array: NDArray[np.float32] = in_single(scores_NC, model).cpu().numpy()
    return array, kept


def _blind(model: Predictor, names: Sequence[str], prompts: Sequence[str], alpha: float) -> NDArray[np.float32] | None:
    """[C] alpha times what each class's prompts have on average without a picture; None with nothing to correct."""
    if not alpha or not scores_by_text_likelihood(model):
        return None
    texts = [prompt.format(name) for prompt in prompts for name in names]
    mean_C = alpha * blind_scores(model, texts).reshape(len(prompts), len(names)).mean(0)
    array: NDArray[np.float32] = mean_C.float().cpu().numpy()
    return array


def _metrics(
    scores_NC: NDArray[np.float32], corrected_NC: NDArray[np.float32] | None, truth_N: NDArray[np.int64],
    samples: Sequence[Sample], names: Sequence[str], records: Records,
) -> dict[str, Metric]:  # fmt: skip
    classes = len(names)
    right_NC = truth_N[:, None] == np.arange(classes)
    found = ranking(scores_NC, right_NC)
    values = {"top1": found.strict(1).tolist()}
    if corrected_NC is not None:
        values[f"top1{SUFFIX}"] = ranking(corrected_NC, right_NC).strict(1).tolist()
    predicted = scores_NC.argmax(1)
    records.add(
        *(
            SampleRecord(
                sample.key, output=names[predicted[i]], values={name: float(of[i]) for name, of in values.items()}
            )
            for i, sample in enumerate(samples)
        )
    )
    metrics = {}
    for k in (1, 5) if classes > 5 else (1,):
        metrics[f"top{k}"] = mean_metric(found.strict(k).tolist(), None, k / classes, records.seed)
        metrics[f"top{k}_expected"] = mean_metric(found.expected(k).tolist(), None, k / classes, records.seed)
    metrics["mean_per_class"] = class_mean_metric(values["top1"], truth_N.tolist(), 1 / classes, records.seed)
    for name, of in values.items():
        if name not in metrics:
            metrics[name] = mean_metric(of, None, 1 / classes, records.seed)
    metrics["tie_rate"] = Metric(found.tie_rate, n=len(samples))
    return metrics


def tiny_data(folder: Path) -> Source:
    """Thirty scenes of one object."""
    return Scenes("test", 30, SceneConfig(size=32, objects=1))
