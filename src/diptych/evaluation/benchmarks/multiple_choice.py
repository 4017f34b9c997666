"""Multiple choice with circular evaluation: right only where every rotation of the options is answered rightly.

Liu et al. 2023 (MMBench), arXiv 2307.06281. Each question is asked as often as it has options, each time with the
options moved on by one, so who prefers a letter, or a place, is found out. `--data` is a folder with MMBench's TSV
(index, question, hint, A, B, C, D, answer, category, image in base64), scenes, whose questions have choices, or nothing
else. A model that writes is shown lettered options and its answer is read by rule; one that chooses is given the
options' texts.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.evaluation.answers.lettered import lettered, read_letter
from diptych.evaluation.answers.mmbench_files import holds_mmbench, read_mmbench
from diptych.evaluation.answers.questions import Asking, Blind, Question, Reply, chooses, replies, verb_of
from diptych.evaluation.answers.results import answer_examples, kind_name, plain_mean
from diptych.evaluation.answers.sample_questions import questions_of_samples
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.files import AnnotationFolder

REQUIRES = ("answer|generate_text",)
SENTENCES = True
DATA = "scenes?count=100"
holds_files = holds_mmbench


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        options: the most options of a question of scenes: the right one, and others drawn by the seed.
        instruction: stands below the lettered options.
        blind: what stands in the picture's place in the control: "other", "grey", or "none" for no control.
        choose: whether a model that writes is to choose among the options' texts all the same.
        max_tokens: of an answer that is written by `generate_text`.
        file: the TSV where a folder has several.
    """

    options: int = 4
    instruction: str = "Answer with the option's letter from the given choices directly."
    blind: Blind = "other"
    choose: bool = False
    max_tokens: int = 16
    file: str = ""

    def __post_init__(self) -> None:
        if self.options < 2 or self.max_tokens < 1:
            raise ConfigError(
                f"multiple_choice.options {self.options} must be 2 or more, and max_tokens {self.max_tokens} 1 or more"
            )

    def asking(self) -> Asking:
        """How the model is asked: the prompt is whole already."""
        return Asking("{}", self.blind, self.choose, self.max_tokens)


@dataclass(frozen=True)
class _Round:
    """One rotation of a question.

    Attributes:
        options: in the order in which they are shown.
        asked: with these options.
    """

    whole: Question
    options: tuple[str, ...]
    asked: Question


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks every question once a rotation.

    Raises:
        DataError: no questions with options, a file of another form, or no pictures.
    """
    if isinstance(source, AnnotationFolder):
        questions = read_mmbench(source.folder, settings.file, records)
    else:
        questions = _drawn(questions_of_samples(source, records), settings, records.seed)
    by_text = chooses(model, settings.asking())
    rounds = {one.asked.key: one for question in questions for one in _rounds(question, by_text, settings)}
    for reply in replies(model, [one.asked for one in rounds.values()], settings.asking(), records):
        records.add(_record(reply, rounds[reply.question.key], by_text))
    extras = {
        "pictures": answer_examples([one.asked for one in rounds.values()], records, "right"),
        "pictures_title": "Questions and answers",
    }
    metrics = _metrics(questions, rounds, records, settings)
    return Outcome(metrics, extras, (verb_of(model, settings.asking()),))


def _drawn(questions: Sequence[Question], settings: Settings, seed: int) -> list[Question]:
    """The questions that have choices, with a few of these in an order of the seed's."""
    found = []
    for question in questions:
        right = question.answers[0]
        if right not in question.choices:
            continue
        wrong = _shuffled([choice for choice in question.choices if choice != right], "options", seed, question.key)
        options = _shuffled([right, *wrong[: settings.options - 1]], "order", seed, question.key)
        found.append(replace(question, choices=tuple(options)))
    if not found:
        raise DataError("none of the questions has choices with the right answer among them")
    return found


def _shuffled(names: Sequence[str], purpose: str, seed: int, key: str) -> list[str]:
    return sorted(names, key=lambda name: hash_to_int(purpose, seed, key, name))


def _rounds(question: Question, by_text: bool, settings: Settings) -> Iterator[_Round]:
    """As many as it has options."""
    for turn in range(len(question.choices)):
        options = question.choices[turn:] + question.choices[:turn]
        text = question.text if by_text else lettered(question.text, options, settings.instruction)
        asked = replace(question, key=f"{question.key}#{turn}", text=text, choices=options)
        yield _Round(question, options, asked)


def _record(reply: Reply, one: _Round, by_text: bool) -> SampleRecord:
    right = one.whole.answers[0]
    read = _read(reply.answer, one, by_text)
    values = {"right": float(read == right), "not_read": float(read is None)}
    if reply.blind is not None:
        values["right_blind"] = float(_read(reply.blind, one, by_text) == right)
    output = {"answer": reply.answer, "read": read, "blind": reply.blind}
    return SampleRecord(one.asked.key, prompt=one.asked.text, output=output, values=values)


def _read(answer: str, one: _Round, by_text: bool) -> str | None:
    return answer if by_text else read_letter(answer, one.options)


def _metrics(
    questions: Sequence[Question], rounds: dict[str, _Round], records: Records, settings: Settings
) -> dict[str, Metric]:
    """Over questions: all rotations right, the first right, and the mean of all; then circular by category."""
    own = [question for question in questions if all(_done(records, key) for key in _keys(question))]
    if not own:
        raise DataError(f"not one of {len(questions)} questions could be asked: their pictures cannot be read")
    for question in own:
        records.add(_whole(question, [records.done[key].values for key in _keys(question)]))
    return _means(own, records, settings)


def _whole(question: Question, rows: Sequence[Mapping[str, float]]) -> SampleRecord:
    """The record of a question: what its rotations come to."""
    values = {
        "circular": min(row["right"] for row in rows),
        "accuracy": rows[0]["right"],
        "accuracy_all_rotations": sum(row["right"] for row in rows) / len(rows),
        "unread": sum(row["not_read"] for row in rows) / len(rows),
    }
    if all("right_blind" in row for row in rows):
        values["circular_blind"] = min(row["right_blind"] for row in rows)
    return SampleRecord(question.key, prompt=question.text, output=question.answers[0], values=values)


def _keys(question: Question) -> list[str]:
    return [f"{question.key}#{turn}" for turn in range(len(question.choices))]


def _done(records: Records, key: str) -> bool:
    return key in records.done and records.done[key].status == "ok"


def _means(own: Sequence[Question], records: Records, settings: Settings) -> dict[str, Metric]:
    guess = {question.key: 1 / len(question.choices) for question in own}
    once = sum(guess.values()) / len(own)
    metrics = {
        "circular": plain_mean("circular", own, records, _circular_chance(own)),
        "accuracy": plain_mean("accuracy", own, records, once),
        "accuracy_all_rotations": plain_mean("accuracy_all_rotations", own, records, once),
    }
    if any("circular_blind" in records.done[question.key].values for question in own):
        name = {"other": "circular_other_picture", "grey": "circular_grey_picture"}[settings.blind]
        metrics[name] = plain_mean("circular_blind", own, records, _circular_chance(own))
    metrics["unread"] = plain_mean("unread", own, records)
    kinds = sorted({question.kind for question in own})
    for kind in kinds if len(kinds) > 1 else ():
        some = [question for question in own if question.kind == kind]
        metrics[f"circular_{kind_name(kind)}"] = plain_mean("circular", some, records, _circular_chance(some))
    return metrics


def _circular_chance(questions: Sequence[Question]) -> float:
    """Of who guesses anew each time."""
    return sum((1 / len(question.choices)) ** len(question.choices) for question in questions) / len(questions)


def tiny_data(folder: Path) -> Source:
    """Two questions with two options each, in MMBench's table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("index", "question", "A", "B", "answer", "image")]
    for number, (colour, letter) in enumerate((("red", "A"), ("blue", "B"))):
        written = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(written, "PNG")
        picture = base64.b64encode(written.getvalue()).decode()
        rows.append((str(number), "what colour is the square?", "red", "blue", letter, picture))
    text = "".join("\t".join(row) + "\n" for row in rows)
    (folder / "mmbench.tsv").write_text(text, encoding="utf-8")
    return AnnotationFolder(folder)
