"""Questions of ordinary data: those of scenes, and conversations of one question about one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.words.chat import IMAGE
from diptych.evaluation.answers.questions import Question
from diptych.evaluation.benchmark import Records

_KINDS = {"present": "yes/no", "absent": "yes/no", "count": "number"}
"""Kinds of the scenes' questions under the names that VQA has for them; "present" alone would give the answer away."""


def questions_of_samples(source: Source, records: Records) -> list[Question]:
    """The questions of every sample that has any.

    Raises:
        DataError: none has.
    """
    found = [question for sample in records.samples(source) for question in _of_sample(sample, records)]
    if not found:
        raise DataError(
            f"{source.name} has no question with an answer: expected scenes, conversations about pictures, or a folder "
            f"of official files"
        )
    return found


def _of_sample(sample: Sample, records: Records) -> Iterator[Question]:
    if not sample.visuals or not isinstance(sample.visuals[0], Image):
        records.fail(BadSample(sample.key, "no picture"))
        return
    image = partial(_same, sample.image)
    if asked := sample.meta.get("questions"):
        for number, one in enumerate(asked):
            kind = _KINDS.get(one["kind"], one["kind"])
            key = f"{sample.key}#{one['kind']}-{number}"
            yield Question(key, one["question"], image, sample.key, (one["answer"],), tuple(one["choices"]), kind)
    elif sample.turns:
        yield from _of_conversation(sample, image, records)


def _of_conversation(sample: Sample, image: partial[Image], records: Records) -> Iterator[Question]:
    """A conversation of one picture, one question and one answer."""
    said = [turn for turn in sample.turns if turn.role != "system"]
    if len(sample.visuals) != 1 or [turn.role for turn in said] != ["user", "assistant"]:
        records.fail(BadSample(sample.key, "skipped: no single question with its answer about one picture"))
        return
    question, answer = _words(said), said[1].text.strip()
    if not question or not answer:
        records.fail(BadSample(sample.key, "skipped: no question" if not question else "skipped: no answers"))
        return
    yield Question(sample.key, question, image, sample.key, (answer,))


def _words(said: Sequence[Turn]) -> str:
    return " ".join(said[0].text.replace(IMAGE, " ").split())


def _same(image: Image) -> Image:
    return image
