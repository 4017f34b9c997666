"""MME: two questions of yes and no a picture, one of each; accuracy, and how often both are right.

Fu et al. 2023, arXiv 2306.13394. `--data` is the folder of the official release: one folder a subtask, in it (or below)
for each picture a text of two lines, question and answer parted by a tab. Scenes are the default, of which the two
questions about what is there and what is not make the subtask "existence". The score of a subtask is 100 (accuracy +
accuracy+), and perception and cognition are sums of scores, as published. Written answers are read by the official
rule: "yes" or "no" among the first four letters, anything else is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.evaluation.answers.questions import Asking, Blind, Question, Reply, replies, verb_of
from diptych.evaluation.answers.results import BLIND_SUFFIX, answer_examples
from diptych.evaluation.answers.sample_questions import questions_of_samples
from diptych.evaluation.answers.yes_no import CHOICES, NO, YES
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.files import AnnotationFolder
from diptych.evaluation.picture_folder import PictureFolder
from diptych.evaluation.statistics import mean_metric, resampled

REQUIRES = ("answer|generate_text",)
SENTENCES = True
DATA = "scenes?count=200"

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_TOTALS = {"perception": PERCEPTION, "cognition": COGNITION}
_LETTERS = 4
_ENDINGS = (".jpg", ".png", ".jpeg")


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        prompt: how a question is put, with {} for it; the official questions end with "Please answer yes or no."
        blind: what stands in the picture's place in the control: "other", "grey", or "none" for no control.
        choose: whether a model that writes is to choose between "yes" and "no" all the same.
    """

    prompt: str = "{}"
    blind: Blind = "other"
    choose: bool = False

    def __post_init__(self) -> None:
        if "{}" not in self.prompt:
            raise ConfigError(f"mme.prompt '{self.prompt}' has no {{}}, where the question goes")

    def asking(self) -> Asking:
        """How the model is asked."""
        return Asking(self.prompt, self.blind, self.choose)


@dataclass(frozen=True)
class _Pair:
    """What the two answers about one picture were worth."""

    task: str
    right: float
    both: float
    blind_both: float | None
    unread: float


def holds_files(folder: Path) -> bool:
    """Whether the folder has one of the official subtasks in it."""
    return any((folder / task).is_dir() for task in (*PERCEPTION, *COGNITION))


def read_mme(answer: str) -> str:
    """ "yes", "no" or "other", as the official evaluation reads an answer."""
    begins = answer.lower()[:_LETTERS]
    return YES if YES in begins else NO if NO in begins else "other"


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks both questions of every picture.

    Raises:
        DataError: no questions, or a text that does not hold two.
    """
    if isinstance(source, AnnotationFolder):
        questions = list(_official(source.folder, records))
    else:
        questions = _existence(questions_of_samples(source, records))
    if not questions:
        raise DataError(f"{source.name} has no pictures with two questions of yes and no")
    for reply in replies(model, questions, settings.asking(), records):
        records.add(_record(reply, settings))
    extras = {"pictures": answer_examples(questions, records, "accuracy"), "pictures_title": "Questions and answers"}
    return Outcome(_metrics(_pairs(questions, records, settings), settings, records.seed), extras,
                   (verb_of(model, settings.asking()),))  # fmt: skip


def _official(folder: Path, records: Records) -> Iterator[Question]:
    """The questions of every subtask's texts; a limit is one of pictures."""
    texts = sorted(path for path in folder.rglob("*.txt") if len(path.relative_to(folder).parts) > 1)
    for index in records.within_limit([str(path.relative_to(folder)) for path in texts]):
        path = texts[index]
        task = path.relative_to(folder).parts[0]
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if len(lines) != 2 or any(len(line) != 2 or line[1].strip().lower() not in CHOICES for line in lines):
            raise DataError(f"{path} does not hold two questions, each with Yes or No behind a tab, as MME's texts do")
        pictures = partial(PictureFolder(folder / task).read, [path.stem + ending for ending in _ENDINGS])
        for number, (text, answer) in enumerate(lines):
            unit = f"{task}/{path.stem}"
            yield Question(f"{unit}#{number}", text.strip(), pictures, unit, (answer.strip().lower(),), CHOICES, task)


def _existence(questions: Sequence[Question]) -> list[Question]:
    """What is there and what is not, of the pictures that have a question of each."""
    found = [replace(question, kind="existence") for question in questions if set(question.choices) == {*CHOICES}]
    answers: dict[str, set[str]] = {}
    for question in found:
        answers.setdefault(question.picture, set()).add(question.answers[0])
    return [question for question in found if answers[question.picture] == {*CHOICES}]


def _record(reply: Reply, settings: Settings) -> SampleRecord:
    question = reply.question
    read = read_mme(reply.answer)
    values = {"accuracy": float(read == question.answers[0]), "unread": float(read == "other")}
    if reply.blind is not None:
        values["blind"] = float(read_mme(reply.blind) == question.answers[0])
    output = {"answer": reply.answer, "blind": reply.blind, "read": read, "label": question.answers[0]}
    return SampleRecord(question.key, prompt=settings.prompt.replace("{}", question.text), output=output, values=values)


def _pairs(questions: Sequence[Question], records: Records, settings: Settings) -> list[_Pair]:
    """Of every picture of which both questions could be asked; each gets a record of its own.

    Raises:
        DataError: of none.
    """
    by_picture: dict[str, list[Question]] = {}
    for question in questions:
        by_picture.setdefault(question.picture, []).append(question)
    found = []
    for some in by_picture.values():
        rows = [records.done[question.key].values for question in some]
        if all("accuracy" in row for row in rows):
            right = [row["accuracy"] for row in rows]
            blind = [row["blind"] for row in rows if "blind" in row]
            unread = sum(row["unread"] for row in rows) / len(rows)
            blind_both = min(blind) if len(blind) == len(rows) else None
            pair = _Pair(some[0].kind, sum(right) / len(right), min(right), blind_both, unread)
            records.add(SampleRecord(some[0].picture, values={"accuracy_plus": pair.both}))
            found.append(pair)
    if not found:
        raise DataError(f"not one of {len(by_picture)} pictures could be asked about: are the pictures there?")
    return found


def _metrics(pairs: Sequence[_Pair], settings: Settings, seed: int) -> dict[str, Metric]:
    """Totals first, then over everything, then by subtask."""
    by_task: dict[str, list[_Pair]] = {}
    for pair in pairs:
        by_task.setdefault(pair.task, []).append(pair)
    metrics = {}
    for total, tasks in _TOTALS.items():
        if known := [by_task[task] for task in tasks if task in by_task]:
            metrics[total] = _total(known, seed)
    metrics["accuracy"] = mean_metric([pair.right for pair in pairs], None, 0.5, seed)
    metrics["accuracy_plus"] = mean_metric([pair.both for pair in pairs], None, 0.25, seed)
    if blind := [pair.blind_both for pair in pairs if pair.blind_both is not None]:
        metrics[f"accuracy_plus{BLIND_SUFFIX[settings.blind]}"] = mean_metric(blind, None, 0.25, seed)
    metrics["unread"] = mean_metric([pair.unread for pair in pairs], None, None, seed)
    for task, some in sorted(by_task.items()) if len(by_task) > 1 else ():
        metrics[f"{task}_score"] = _total([some], seed)
        metrics[f"{task}_accuracy"] = mean_metric([pair.right for pair in some], None, 0.5, seed)
        metrics[f"{task}_accuracy_plus"] = mean_metric([pair.both for pair in some], None, 0.25, seed)
    return metrics


def _total(tasks: Sequence[Sequence[_Pair]], seed: int) -> Metric:
    """The sum of the scores of subtasks; pictures are resampled within each."""
    rows = [np.array([100 * (pair.right + pair.both) for pair in some]) for some in tasks]
    drawn_R = np.sum(
        [resampled(row, np.ones_like(row), hash_to_int(seed, place)) for place, row in enumerate(rows)], axis=0
    )
    low, high = np.quantile(drawn_R, [0.025, 0.975])
    value = float(sum(row.mean() for row in rows))
    return Metric(value, float(low), float(high), 75.0 * len(rows), sum(map(len, rows)), unit="number")


def tiny_data(folder: Path) -> Source:
    """One picture with two questions, in the official files."""
    (folder / "color").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), "red").save(folder / "color" / "one.png")
    (folder / "color" / "one.txt").write_text("is it a red square?\tYes\nis it a blue square?\tNo\n", encoding="utf-8")
    return AnnotationFolder(folder)
