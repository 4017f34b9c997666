"""Does this text belong to this picture? Each picture with its caption, against the same picture with another's.

A comparison of two scores of one picture, by `score_pairs`: the matching head where a model has one, whatever its score
follows from otherwise. Chance is 1/2. The other caption is that of another sample, by a seeded order, none of whose
captions the picture shares. Strict (a tie counts against) beside the expectation under random tie-breaking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable
from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.comparability import require
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.encoding import BATCH, batched
from diptych.evaluation.metrics.preference import expected_win, strict_win, tied
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("score_pairs",)
SENTENCES = True
DATA = "scenes?min_objects=2"


@dataclass(frozen=True)
class Settings:
    """Nothing to choose."""


@dataclass(frozen=True)
class _Question:
    """A picture, what is said of it, and what is said of another one."""

    sample: Sample
    own: str
    other: str


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Scores both texts of every picture.

    Raises:
        DataError: fewer than two pictures with captions that differ.
        NotComparable: the model's score does not compare the texts of one picture.
    """
    require(model, Comparable.TEXTS, "matching two texts to a picture")
    for some in batched(_questions(list(records.samples(source)), records), BATCH):
        _ask(model, some, records)
    values, _ = records.values("accuracy")
    if not values:
        raise DataError(f"{source.name} has no two pictures with captions that differ")
    ties, _ = records.values("tie_rate")
    expected, _ = records.values("accuracy_expected")
    return Outcome(
        {
            "accuracy": mean_metric(values, None, 1 / 2, records.seed),
            "accuracy_expected": mean_metric(expected, None, 1 / 2, records.seed),
            "tie_rate": Metric(sum(ties) / len(ties), n=len(ties)),
        }
    )


def _questions(samples: Sequence[Sample], records: Records) -> list[_Question]:
    """A question for each sample that has a caption; for the others a record that says why not."""
    said = [[text for text in sample.texts if text.strip()] for sample in samples]
    others = Derangement([sample.key for sample in samples], records.seed)
    found = []
    for index, (sample, texts) in enumerate(zip(samples, said, strict=True)):
        other = others.of(index, partial(_differs, said, texts)) if texts else None
        if other is None:
            records.fail(BadSample(sample.key, "no other caption" if texts else "no caption"))
        else:
            found.append(_Question(sample, texts[0], said[other][0]))
    return found


def _differs(said: Sequence[Sequence[str]], own: Sequence[str], index: int) -> bool:
    """Whether a sample has captions, and none of these."""
    return bool(said[index]) and not set(said[index]) & set(own)


def _ask(model: Predictor, questions: Sequence[_Question], records: Records) -> None:
    """Both scores of each question; one by one only where a picture among them is bad."""
    images = [question.sample.image for question in questions]
    texts = [question.own for question in questions] + [question.other for question in questions]
    try:
        scores = checked(model.score_pairs(images * 2, texts), model, questions[0].sample.key).tolist()
    except BadSample as bad:
        if len(questions) == 1:
            return records.fail(BadSample(questions[0].sample.key, bad.reason, bad.detail))
        for question in questions:
            _ask(model, [question], records)
        return None
    for question, right, wrong in zip(questions, scores[: len(images)], scores[len(images) :], strict=True):
        records.add(_record(question, right, wrong))
    return None


def _record(question: _Question, right: float, wrong: float) -> SampleRecord:
    values = {
        "accuracy": strict_win(right, [wrong]),
        "accuracy_expected": expected_win(right, [wrong]),
        "tie_rate": tied(right, [wrong]),
    }
    prompt = [question.own, question.other]
    return SampleRecord(question.sample.key, prompt=prompt, output=[right, wrong], values=values)


def tiny_data(folder: Path) -> Source:
    """Twelve scenes."""
    return Scenes("test", 12, SceneConfig(size=32, min_objects=2))
