"""A word of a caption is hidden: is it found with the picture, and is it found as often with another picture?

Right guesses with the caption's own picture, beside those with a picture that the word is not true of: what a model
knows from the words alone (and from expecting a picture at all) is in both, so their difference is what it reads from
the picture. On scenes a colour and a shape are asked for, out of all colours and all shapes; elsewhere a word with
content, out of the most frequent ones of the data.

Chance is one over the choices. `..._majority` is the share of the commonest true word: what one answer for everything
would get.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diptych.capabilities.predictor import TextFiller
from diptych.core.errors import ConfigError, DataError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.cloze import MASK
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import batched
from diptych.evaluation.masked.hidden_words import Question, questions
from diptych.evaluation.progress import shown
from diptych.evaluation.statistics import mean_metric, paired, standard_error

REQUIRES = ("fill_text",)
SENTENCES = True
DATA = "scenes?min_objects=2"

_BATCH, _EXAMPLES = 32, 4


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        vocabulary: how many of the data's most frequent words with content are the choices; 0 to let the model say any
            word. Scenes have choices of their own.
        each: how many words of a picture's captions are hidden, one at a time; a picture counts by their mean, and
            intervals are over pictures.
    """

    vocabulary: int = 100
    each: int = 1

    def __post_init__(self) -> None:
        if self.vocabulary < 0 or self.vocabulary == 1:
            raise ConfigError(f"masked_words.vocabulary {self.vocabulary} must be 0, for any word, or 2 or more")
        if self.each < 1:
            raise ConfigError(f"masked_words.each {self.each} must be at least 1")


def run(model: Any, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks for every hidden word, with both pictures.

    Raises:
        DataError: no caption has a word to hide.
    """
    samples = [sample for sample in records.samples(source) if records.has_caption(sample)]
    asked, skipped = questions(samples, settings.vocabulary, records.seed, settings.each)
    records.add(*skipped)
    left = [question for question in asked if question.key not in records.done]
    batches = [
        some for free in (False, True) for some in batched([one for one in left if (one.choices == ()) is free], _BATCH)
    ]
    for some in shown(batches, "hidden words", len(batches), records):
        _ask(model, samples, some, records)
    return Outcome(_metrics(asked, records), {"gallery": _examples(asked, records)})


def _ask(model: TextFiller, samples: Sequence[Sample], asked: Sequence[Question], records: Records) -> None:
    """Both answers to each question; one by one only where one of them cannot be answered."""
    try:
        own = _words(model, [samples[question.sample] for question in asked], asked)
        other = _words(model, [samples[question.other] for question in asked], asked)
    except (BadSample, TextTooLong) as error:
        if len(asked) == 1:
            records.add(SampleRecord(asked[0].key, status=_why(model, samples, asked[0], error)))
            return
        for question in asked:
            _ask(model, samples, [question], records)
        return
    for question, right, wrong in zip(asked, own, other, strict=True):
        records.add(_record(question, samples[question.other].key, right, wrong))


def _words(model: TextFiller, shown_with: Sequence[Sample], asked: Sequence[Question]) -> list[str]:
    """The word for each question with these pictures."""
    choices = [question.choices for question in asked] if asked[0].choices else None
    answers = model.fill_text([one.image for one in shown_with], [question.text for question in asked], choices)
    return [words[0] for words in answers]


def _why(model: TextFiller, samples: Sequence[Sample], question: Question, error: BadSample | TextTooLong) -> str:
    """The status of a question that was not answered."""
    if isinstance(error, TextTooLong):
        return "skipped: the caption does not fit"
    try:
        _words(model, [samples[question.sample]], [question])
    except BadSample as bad:
        return bad.reason
    return f"skipped: the other picture: {error.reason}"


def _record(question: Question, other: str, right: str, wrong: str) -> SampleRecord:
    values = {
        question.group: float(_same(right, question.truth)),
        f"{question.group}_other_picture": float(_same(wrong, question.truth)),
    }
    output = {"truth": question.truth, "own": right, "other": wrong, "other_picture": other}
    return SampleRecord(question.key, prompt=question.text, output=output, values=values)


def _same(word: str, truth: str) -> bool:
    return word.strip().lower() == truth


def _examples(asked: Sequence[Question], records: Records) -> list[dict[str, Any]]:
    """Right and wrong words in their captions, for the gallery of a report."""
    found: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for question in asked:
        record = records.done[question.key]
        if record.status != "ok":
            continue
        right = bool(record.values[question.group])
        truth, said = (question.text.replace(MASK, str(record.output[name])) for name in ("truth", "own"))
        found[right].append(
            {"key": question.picture, "query": "", "right": right, "rank": None, "truth": truth, "top": [said]}
        )
    return [*found[True][:_EXAMPLES], *found[False][:_EXAMPLES]]


def _by_picture(values: Sequence[float], keys: Sequence[str], asked: Sequence[Question]) -> list[float]:
    """The mean of each picture's answers, in the order of the pictures."""
    picture_of = {question.key: question.picture for question in asked}
    found: dict[str, list[float]] = {}
    for value, key in zip(values, keys, strict=True):
        found.setdefault(picture_of[key], []).append(value)
    return [sum(some) / len(some) for some in found.values()]


def _metrics(asked: Sequence[Question], records: Records) -> dict[str, Metric]:
    """Per group: accuracy with the own picture, with another one, their difference, and the commonest word's share."""
    metrics: dict[str, Metric] = {}
    for group in dict.fromkeys(question.group for question in asked):
        answers, keys = records.values(group)
        if not answers:
            continue
        own = _by_picture(answers, keys, asked)
        other = _by_picture(records.values(f"{group}_other_picture")[0], keys, asked)
        choices = {len(question.choices) for question in asked if question.group == group}
        chance = 1 / choices.pop() if choices != {0} else None
        gain, _ = paired(other, own, seed=records.seed)
        error = standard_error([a - b for a, b in zip(own, other, strict=True)])
        truths = Counter(str(records.done[key].output["truth"]) for key in keys)
        metrics[group] = mean_metric(own, None, chance, records.seed)
        metrics[f"{group}_other_picture"] = mean_metric(other, None, chance, records.seed)
        metrics[f"{group}_gain"] = replace(gain, chance=None)
        if len(own) > 1:
            metrics[f"{group}_gain_standard_error"] = Metric(error, n=len(own))
        metrics[f"{group}_majority"] = Metric(max(truths.values()) / len(answers), n=len(answers))
    if not metrics:
        raise DataError("no caption has a word to hide that is not true of the other pictures too")
    return metrics


def tiny_data(folder: Path) -> Source:
    """Twelve scenes of one object: short captions."""
    return Scenes("test", 12, SceneConfig(size=32, objects=1, words=0.0))
