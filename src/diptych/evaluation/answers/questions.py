"""Questions about pictures, and how a model is asked: what all benchmarks of answers share.

A model that writes (a native `answer`, or `generate_text`) is asked freely. One that can only say how well a text fits
chooses among candidates by its derived `answer`. Each question is asked once more of a picture that it is not about:
what is right then was not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import TextTooLong
from diptych.core.processor import BadSample
from diptych.core.records.results import SampleRecord
from diptych.core.sampling import TextSampling
from diptych.core.visual import Image
from diptych.evaluation.benchmark import Records
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.encoding import batched
from diptych.evaluation.progress import shown

BATCH = 16
Blind = Literal["other", "grey", "none"]
"""What is shown in the picture's place: that of another question, a grey one, or no such control."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        key: of its record.
        text: as it is asked.
        image: reads the picture; None where the user does not have it.
        picture: which picture it is, the unit of intervals: several questions may be about one.
        answers: what is right, or what each of several people said.
        choices: what may be answered; () for anything.
        kind: the part of the benchmark it counts for.
    """

    key: str
    text: str
    image: Callable[[], Image | None]
    picture: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Reply:
    """What a model answered about the question's picture, and about what was shown in its place."""

    question: Question
    image: Image
    answer: str
    blind: str | None


@dataclass(frozen=True)
class Asking:
    """How a model is asked.

    Attributes:
        prompt: how the question is put, with {} for it.
        blind: the control.
        choose: whether one of the choices is asked for even where the model could write anything.
        max_tokens: of an answer that `generate_text` writes; a native `answer` has a length of its own.
    """

    prompt: str = "{}"
    blind: Blind = "other"
    choose: bool = False
    max_tokens: int = 16


def writes(model: Predictor) -> bool:
    """Whether the model can answer without choices."""
    return bool({Verb.ANSWER, Verb.GENERATE_TEXT} & set(model.VERBS))


def chooses(model: Predictor, asking: Asking) -> bool:
    """Whether it will be given choices."""
    return not writes(model) or (asking.choose and Verb.ANSWER in model.verbs)


def verb_of(model: Predictor, asking: Asking) -> Verb:
    """The verb by which it is asked."""
    return Verb.ANSWER if chooses(model, asking) or Verb.ANSWER in model.VERBS else Verb.GENERATE_TEXT


def replies(
    model: Predictor, questions: Sequence[Question], asking: Asking, records: Records, title: str = "questions"
) -> Iterator[Reply]:
    """An answer to each question that has no record yet; one that cannot be asked gets its record here."""
    others = _Others(questions, records.seed) if asking.blind == "other" else None
    left = [index for index, question in enumerate(questions) if question.key not in records.done]
    some = list(batched(left, BATCH))
    for positions in shown(some, title, len(some), records):
        yield from _answered(model, questions, positions, asking, others, records)


class _Others:
    """For each question the position of one about another picture."""

    def __init__(self, questions: Sequence[Question], seed: int) -> None:
        self._questions = questions
        self._others = Derangement([question.key for question in questions], seed)

    def of(self, index: int) -> int | None:
        own = self._questions[index].picture
        return self._others.of(index, lambda other: self._questions[other].picture != own)


def _answered(
    model: Predictor, questions: Sequence[Question], positions: Sequence[int], asking: Asking,
    others: _Others | None, records: Records,
) -> list[Reply]:  # fmt: skip
    """A whole batch at once; one by one only where one of it cannot be asked."""
    try:
        seen = [(index, image) for index in positions if (image := _picture(questions[index], records)) is not None]
        return _asked(model, questions, seen, asking, others) if seen else []
    except (BadSample, TextTooLong) as error:
        if len(positions) > 1:
            return [one for index in positions for one in _answered(model, questions, [index], asking, others, records)]
        reason = "skipped: the question does not fit" if isinstance(error, TextTooLong) else error.reason
        records.add(SampleRecord(questions[positions[0]].key, status=reason))
        return []


def _picture(question: Question, records: Records) -> Image | None:
    image = question.image()
    if image is None:
        records.add(SampleRecord(question.key, status="skipped: no picture"))
    return image


def _asked(
    model: Predictor, questions: Sequence[Question], seen: Sequence[tuple[int, Image]], asking: Asking,
    others: _Others | None,
) -> list[Reply]:  # fmt: skip
    own = [questions[index] for index, _ in seen]
    answers = ask(model, own, [image for _, image in seen], asking)
    blind: dict[int, str] = {}
    if shown_instead := {index: image for index, _ in seen if (image := _instead(questions, index, asking, others))}:
        found = ask(model, [questions[index] for index in shown_instead], list(shown_instead.values()), asking)
        blind = dict(zip(shown_instead, found, strict=True))
    return [
        Reply(question, image, answer, blind.get(index))
        for question, answer, (index, image) in zip(own, answers, seen, strict=True)
    ]


def _instead(questions: Sequence[Question], index: int, asking: Asking, others: _Others | None) -> Image | None:
    if asking.blind == "grey":
        return Image(pixels_HWC=np.full((64, 64, 3), 128, np.uint8), name="grey")
    other = others.of(index) if others is not None else None
    return None if other is None else questions[other].image()


def ask(model: Any, questions: Sequence[Question], images: Sequence[Image], asking: Asking) -> list[str]:
    """The answers about these pictures, as the model gives them, without spaces around them.

    Raises:
        BadSample: a picture cannot be decoded.
        TextTooLong: a question does not fit.
    """
    texts = [asking.prompt.replace("{}", question.text) for question in questions]
    if chooses(model, asking):
        found = model.answer(images, texts, [list(question.choices) for question in questions])
    elif Verb.ANSWER in model.VERBS:
        found = model.answer(images, texts)
    else:
        prompts = [[image, text] for image, text in zip(images, texts, strict=True)]
        found = model.generate_text(prompts, TextSampling(asking.max_tokens))
    return [str(answer).strip() for answer in found]
