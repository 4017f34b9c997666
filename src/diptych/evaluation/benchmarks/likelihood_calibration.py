"""Are likelihoods probabilities one can bet on? The choice of a picture's caption among k, and how sure it is.

Each picture's own caption stands among those of others, drawn by a seed. A softmax over the log-likelihoods of the k
says how sure the model is of each: of each text given the picture (`text_...`), or of the picture given each text, all
of them equally likely beforehand (`image_...`). It is calibrated where it is right in 70 of 100 cases in which it is
70 % sure. Expected calibration error over 15 bins, overconfidence (mean confidence less accuracy), the logarithmic loss
(ln k for one that knows nothing, and says so), and a diagram in the report. Beside them the loss itself: nats for each
token of the own caption, or of the picture given it (`..._nats`).

N pictures, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.capabilities.generator import Likelihood
from diptych.capabilities.nan_check import checked
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.metrics.calibration import calibration_error, reliability
from diptych.evaluation.metrics.preference import expected_win, strict_win
from diptych.evaluation.progress import shown
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("text_likelihood|image_likelihood",)
SENTENCES = True
DATA = "scenes?min_objects=2&count=400"

WAYS = {Verb.TEXT_LIKELIHOOD: "text", Verb.IMAGE_LIKELIHOOD: "image"}


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        among: k, the number of candidates; the data's own number of captions that differ is the most.
        per_token: whether log-likelihoods are divided by the number of tokens, as scores of texts are.
    """

    among: int = 5
    per_token: bool = False

    def __post_init__(self) -> None:
        if self.among < 2:
            raise ConfigError(f"likelihood_calibration.among {self.among}: a choice needs two candidates or more")


@dataclass(frozen=True)
class _Question:
    """A picture with its caption first and others' after it."""

    sample: Sample
    texts: list[str]


def run(model: Any, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks for the caption of every picture.

    Raises:
        DataError: no picture has so many captions of others to choose from.
    """
    verbs = tuple(verb for verb in WAYS if verb in model.VERBS)
    questions = _questions(list(records.samples(source)), settings.among, records)
    for question in shown(questions, "likelihoods", len(questions), records):
        if question.sample.key not in records.done:
            records.add(_asked(model, question, verbs, settings))
    metrics: dict[str, Metric] = {}
    diagrams = {}
    for way in (WAYS[verb] for verb in verbs):
        found, bins = _calibration(way, settings.among, records)
        metrics |= found
        diagrams[way] = bins
    if not metrics:
        raise DataError(f"{source.name} has no picture with {settings.among - 1} captions of others that differ")
    return Outcome(metrics, {"calibration": diagrams}, verbs)


def _questions(samples: Sequence[Sample], among: int, records: Records) -> list[_Question]:
    """A question for each sample for which there are enough other captions."""
    said = [[text for text in sample.texts if text.strip()] for sample in samples]
    others = Derangement([sample.key for sample in samples], records.seed)
    found = []
    for index, (sample, texts) in enumerate(zip(samples, said, strict=True)):
        chosen = list(texts[:1])
        while texts and len(chosen) < among:
            other = others.of(index, partial(_is_new, said, {*texts, *chosen}))
            if other is None:
                break
            chosen.append(said[other][0])
        if len(chosen) < among:
            records.fail(BadSample(sample.key, "too few other captions" if texts else "no caption"))
        else:
            found.append(_Question(sample, chosen))
    return found


def _is_new(said: Sequence[Sequence[str]], known: set[str], index: int) -> bool:
    """Whether a sample has captions, and none of these."""
    return bool(said[index]) and not known & set(said[index])


def _asked(model: Any, question: _Question, verbs: Sequence[Verb], settings: Settings) -> SampleRecord:
    """The record of one picture: for each way the probability of each caption, and what it is worth."""
    values: dict[str, float] = {}
    output: dict[str, list[float]] = {}
    visuals, texts = [question.sample.image] * len(question.texts), question.texts
    try:
        for verb in verbs:
            if verb == Verb.TEXT_LIKELIHOOD:
                found: Likelihood = model.text_likelihood(visuals, [""] * len(texts), texts)
            else:
                found = model.image_likelihood(texts, visuals)
            log_K = checked(found.mean() if settings.per_token else found.log_N, model, question.sample.key).double()
            values |= _values(WAYS[verb], log_K) | {f"{WAYS[verb]}_nats": -float(found.mean()[0])}
            output[WAYS[verb]] = log_K.softmax(0).tolist()
    except BadSample as bad:
        return SampleRecord(question.sample.key, status=bad.reason)
    return SampleRecord(question.sample.key, prompt=texts, output=output, values=values)


def _values(way: str, log_K: torch.Tensor) -> dict[str, float]:
    """What one choice is worth; the right candidate is the first."""
    right, *wrong = log_K.tolist()
    confidence = float(log_K.softmax(0).max())
    accuracy = strict_win(right, wrong)
    return {
        f"{way}_accuracy": accuracy,
        f"{way}_accuracy_expected": expected_win(right, wrong),
        f"{way}_confidence": confidence,
        f"{way}_overconfidence": confidence - expected_win(right, wrong),
        f"{way}_log_loss": -float(log_K.log_softmax(0)[0]),
    }


def _calibration(way: str, among: int, records: Records) -> tuple[dict[str, Metric], list[dict[str, Any]]]:
    """The numbers of one way, and its diagram."""
    columns = {
        name: records.values(f"{way}_{name}")[0]
        for name in ("accuracy", "accuracy_expected", "confidence", "overconfidence", "log_loss", "nats")
    }
    if not columns["accuracy"]:
        return {}, []
    bins = reliability(np.array(columns["confidence"]), np.array(columns["accuracy_expected"]))
    metrics = {
        f"{way}_{name}": mean_metric(columns[name], None, 1 / among, records.seed)
        for name in ("accuracy", "accuracy_expected")
    }
    metrics[f"{way}_calibration_error"] = Metric(calibration_error(bins), n=len(columns["accuracy"]))
    metrics[f"{way}_confidence"] = mean_metric(columns["confidence"], None, None, records.seed)
    metrics[f"{way}_overconfidence"] = replace(
        mean_metric(columns["overconfidence"], None, None, records.seed), unit="number"
    )
    for name in ("log_loss", "nats"):
        metrics[f"{way}_{name}"] = replace(mean_metric(columns[name], None, None, records.seed), unit="number")
    return metrics, [asdict(one) for one in bins]


def tiny_data(folder: Path) -> Source:
    """Twelve scenes."""
    return Scenes("test", 12, SceneConfig(size=32, min_objects=2))
