"""What answers come to: means by kind with what needs no look at the picture beside them, and examples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from diptych.core.processor import BadSample
from diptych.core.records.results import Metric
from diptych.data.pixels.thumbnail import png
from diptych.evaluation.answers.questions import Blind, Question
from diptych.evaluation.benchmark import Records
from diptych.evaluation.statistics import mean_metric, paired, standard_error

_COMMONEST = 20
_EXAMPLES = 4

BLIND_SUFFIX: Mapping[str, str] = {"other": "_other_picture", "grey": "_grey_picture"}


def constant_answers(
    questions: Sequence[Question], worth: Callable[[str, Sequence[str]], float]
) -> dict[str, tuple[str, float]]:
    """For each kind of question the one answer that, given to all of them, is worth most, and what it is worth.

    Args:
        worth: an answer and the references -> 0 to 1.
    """
    by_kind: dict[str, list[Question]] = {}
    for question in questions:
        by_kind.setdefault(question.kind, []).append(question)
    found = {}
    for kind, some in by_kind.items():
        said = Counter(answer for question in some for answer in question.answers)
        means = {
            answer: sum(worth(answer, question.answers) for question in some) / len(some)
            for answer, _ in said.most_common(_COMMONEST)
        }
        best = max(means, key=lambda answer: means[answer])
        found[kind] = (best, means[best])
    return found


def kind_name(kind: str) -> str:
    """A kind as a part of a metric's name: "yes/no" is "yes_no"."""
    return re.sub(r"\W+", "_", kind.lower()).strip("_") or "other"


def means_with_control(
    name: str, questions: Sequence[Question], records: Records, blind: Blind, chance: Mapping[str, float]
) -> dict[str, Metric]:
    """The mean of a value, of it without the right picture, their difference, and the mean of each kind.

    Args:
        name: of the value.
        chance: of each kind.
    """
    done = [question for question in questions if name in _values(records, question)]
    if not done:
        return {}
    seed, units = records.seed, [question.picture for question in done]
    own = [_values(records, question)[name] for question in done]
    mean_chance = sum(chance[question.kind] for question in done) / len(done)
    metrics = {name: mean_metric(own, units, mean_chance, seed)}
    if blind != "none":
        metrics |= _control(name, done, records, blind)
    kinds = sorted({question.kind for question in done})
    for kind in kinds if len(kinds) > 1 else ():
        some = [(value, question) for value, question in zip(own, done, strict=True) if question.kind == kind]
        values, pictures = [value for value, _ in some], [question.picture for _, question in some]
        metrics[f"{name}_{kind_name(kind)}"] = mean_metric(values, pictures, chance[kind], seed)
    return metrics


def _control(name: str, done: Sequence[Question], records: Records, blind: Blind) -> dict[str, Metric]:
    elsewhere = f"{name}{BLIND_SUFFIX[blind]}"
    both = [question for question in done if elsewhere in _values(records, question)]
    if not both:
        return {}
    units = [question.picture for question in both]
    own, other = ([_values(records, question)[of] for question in both] for of in (name, elsewhere))
    gain, _ = paired(other, own, units, records.seed)
    return {
        elsewhere: mean_metric(other, units, None, records.seed),
        f"{name}_gain": replace(gain, chance=None, unit="number"),
        f"{name}_gain_standard_error": Metric(standard_error(gain_of(own, other), units), n=gain.n, unit="number"),
    }


def gain_of(own: Iterable[float], other: Iterable[float]) -> list[float]:
    """What each question gains by its picture."""
    return [a - b for a, b in zip(own, other, strict=True)]


def _values(records: Records, question: Question) -> Mapping[str, float]:
    record = records.done.get(question.key)
    return {} if record is None else record.values


def plain_mean(name: str, questions: Sequence[Question], records: Records, chance: float | None = None) -> Metric:
    """The mean of a value over the questions that have it, with its interval over pictures."""
    done = [question for question in questions if name in _values(records, question)]
    values = [_values(records, question)[name] for question in done]
    return mean_metric(values, [question.picture for question in done], chance, records.seed)


def answer_examples(questions: Sequence[Question], records: Records, name: str) -> list[dict[str, Any]]:
    """For the report: questions with their pictures, the right ones first.

    Args:
        name: of the value that says how right an answer is.
    """
    done = [question for question in questions if name in _values(records, question)]
    right = [question for question in done if _values(records, question)[name] > 0]
    wrong = [question for question in done if _values(records, question)[name] == 0]
    return [row for some in (right, wrong) for question in some[:_EXAMPLES] if (row := _row(question, records))]


def _row(question: Question, records: Records) -> dict[str, Any] | None:
    said = records.done[question.key].output
    answer = said["answer"] if isinstance(said, dict) else said
    truth = " / ".join(dict.fromkeys(question.answers))
    try:
        image = question.image()
        address = png(image, question.key) if image is not None else ""
    except BadSample:
        return None
    title = f"{question.text} The model: {answer or 'nothing'}. Right: {truth}."
    return {"key": question.key, "images": [{"title": title, "png": address}]} if address else None
