"""Visual question answering: the soft accuracy of free or chosen answers, by the official rule.

Data are a folder of official files (VQA, OK-VQA, VizWiz, TextVQA, DocVQA, ChartQA: evaluation/answers/vqa_files.py),
scenes, whose questions have one answer each, or conversations of one question with one answer about one picture. Beside
the accuracy stand that of the same questions asked of other pictures, what the picture adds, and, as chance, the
accuracy of the one answer for each kind of question that would do best.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Json
from diptych.core.source import Source
from diptych.evaluation.answers.confidence import confidence, require_confidence
from diptych.evaluation.answers.lave import Lave
from diptych.evaluation.answers.questions import Asking, Blind, Question, Reply, chooses, replies, verb_of
from diptych.evaluation.answers.results import (
    BLIND_SUFFIX,
    answer_examples,
    constant_answers,
    means_with_control,
    plain_mean,
)
from diptych.evaluation.answers.sample_questions import questions_of_samples
from diptych.evaluation.answers.selective import Sure, risk_coverage, selective_metrics, sure_of
from diptych.evaluation.answers.text_judge import TextJudge
from diptych.evaluation.answers.vqa_files import find_vqa, holds_vqa, read_vqa
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import reasons
from diptych.evaluation.files import AnnotationFolder
from diptych.evaluation.metrics.anls import anls
from diptych.evaluation.metrics.relaxed_accuracy import relaxed_accuracy
from diptych.evaluation.metrics.vqa_accuracy import accuracy_of_all, normalised, soft_accuracy
from diptych.evaluation.picture_folder import PictureFolder

REQUIRES = ("answer|generate_text",)
SENTENCES = True
DATA = "scenes?count=200"

_SCORES: dict[str, Callable[[str, Sequence[str]], float]] = {
    "accuracy": soft_accuracy, "anls": anls, "relaxed": relaxed_accuracy,
}  # fmt: skip
holds_files = holds_vqa


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        prompt: how a question is put, with {} for it: "{} Answer with one word."
        blind: what stands in the picture's place in the control: "other" for the picture of another question, "grey",
            or "none" for no control.
        choose: whether a model that writes is to choose one of a question's choices all the same.
        candidates: a file of answers, one a line, from which a model that does not write chooses; "" for a question's
            own choices, or else the commonest answers of the evaluated questions.
        commonest: how many of these.
        max_tokens: of an answer that is written by `generate_text`.
        score: "accuracy", "anls" for documents or "relaxed" for charts; the headline, beside which the accuracy stands.
        selective: whether the model says how sure it is, and is scored by what it should have left unanswered.
        judge: a language model that rates the answers too (LAVE): a `transformers` folder or hub id; "" for none.
        judge_revision: the commit of a hub id.
        judge_examples: how many rated examples the judge is shown, 8 at the most.
        images: the folder of the pictures of official files; "" for `images` beside them.
        questions, annotations: names of the official files where a folder has several.
    """

    prompt: str = "{}"
    blind: Blind = "other"
    choose: bool = False
    candidates: str = ""
    commonest: int = 100
    max_tokens: int = 16
    score: Literal["accuracy", "anls", "relaxed"] = "accuracy"
    selective: bool = False
    judge: str = ""
    judge_revision: str = ""
    judge_examples: int = 8
    images: str = ""
    questions: str = ""
    annotations: str = ""

    def __post_init__(self) -> None:
        if "{}" not in self.prompt:
            raise ConfigError(f"vqa.prompt '{self.prompt}' has no {{}}, where the question goes")
        if self.commonest < 1 or self.max_tokens < 1:
            raise ConfigError(f"vqa.commonest {self.commonest} and max_tokens {self.max_tokens} must be 1 or more")

    def asking(self) -> Asking:
        """How the model is asked."""
        return Asking(self.prompt, self.blind, self.choose, self.max_tokens)


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks every question.

    Raises:
        DataError: there are no questions with answers, a file is missing or of another form, or the files do not
            belong together.
    """
    questions = _questions(source, settings, records)
    notes = []
    if chooses(model, settings.asking()) and any(not question.choices for question in questions):
        questions, note = _with_candidates(questions, settings)
        notes.append(note)
    if settings.selective:
        require_confidence(model, settings.asking())
    judge = _judge(model, settings)
    for reply in replies(model, questions, settings.asking(), records):
        records.add(_record(model, reply, settings, judge))
    done = [question for question in questions if records.done[question.key].status == "ok"]
    if not done:
        raise DataError(
            f"not one of {len(questions)} questions could be asked: {reasons(records)}; pictures of official "
            f"files are looked for in images/, or where vqa.images says"
        )
    constant = constant_answers(done, _worth(settings))
    metrics = _metrics(done, records, settings, {kind: value for kind, (_, value) in constant.items()})
    extras: dict[str, Any] = {
        "pictures": answer_examples(done, records, settings.score),
        "pictures_title": "Questions and answers",
        "notes": [*notes, _constant_note(constant)],
    }
    if settings.selective:
        sure = _sure(done, records, settings)
        metrics |= selective_metrics(sure, records.seed)
        extras["risk_coverage"] = risk_coverage(sure)
    if judge is not None:
        extras["judge"] = judge.described()
        extras["notes"].append(f"LAVE by {json.dumps(extras['judge'])}.")
    by_likelihood = settings.selective and Verb.TEXT_LIKELIHOOD in model.verbs
    verbs = (verb_of(model, settings.asking()), *((Verb.TEXT_LIKELIHOOD,) if by_likelihood else ()))
    return Outcome(metrics, extras, verbs)


def _judge(model: Predictor, settings: Settings) -> Lave | None:
    if not settings.judge:
        return None
    return Lave(TextJudge(settings.judge, settings.judge_revision, model.device), settings.judge_examples)


def _questions(source: Source, settings: Settings, records: Records) -> list[Question]:
    if not isinstance(source, AnnotationFolder):
        return questions_of_samples(source, records)
    files = find_vqa(source.folder, settings.questions, settings.annotations)
    return read_vqa(files, PictureFolder(source.folder, settings.images), records)


def _with_candidates(questions: list[Question], settings: Settings) -> tuple[list[Question], str]:
    """The questions with choices for those that have none, and where these are from."""
    if settings.candidates:
        path = Path(settings.candidates)
        if not path.is_file():
            raise DataError(f"no file of answers at {path}: vqa.candidates names one, with an answer a line")
        found = tuple(dict.fromkeys(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()))
        note = f"Chosen from the {len(found)} answers of {path.name}."
    else:
        said = Counter(normalised(answer) for question in questions for answer in question.answers)
        found = tuple(answer for answer, _ in said.most_common(settings.commonest) if answer)
        note = f"Chosen from the {len(found)} commonest answers of these questions, which a user would not know."
    if not found:
        raise DataError("no answers to choose from: name a file of them with vqa.candidates")
    return [one if one.choices else replace(one, choices=found) for one in questions], note


def _worth(settings: Settings) -> Callable[[str, Sequence[str]], float]:
    return _SCORES[settings.score]


def _record(model: Predictor, reply: Reply, settings: Settings, judge: Lave | None) -> SampleRecord:
    """The record of one question."""
    question = reply.question
    output: dict[str, Json] = {"answer": reply.answer, "blind": reply.blind, "references": list(question.answers)}
    values = _values(reply.answer, question.answers, settings)
    values["accuracy_all_answers"] = accuracy_of_all(reply.answer, question.answers)
    if reply.blind is not None:
        without = _values(reply.blind, question.answers, settings)
        values |= {f"{name}{BLIND_SUFFIX[settings.blind]}": value for name, value in without.items()}
    if settings.selective:
        values["confidence"] = confidence(model, question, reply.image, reply.answer, settings.asking())
    if judge is not None:
        output["judge"], rated = judge.rated(question.text, question.answers, reply.answer)
        values |= rated
    return SampleRecord(question.key, prompt=settings.prompt.replace("{}", question.text), output=output, values=values)


def _values(answer: str, references: Sequence[str], settings: Settings) -> dict[str, float]:
    return {name: _SCORES[name](answer, references) for name in dict.fromkeys(("accuracy", settings.score))}


def _metrics(
    questions: Sequence[Question], records: Records, settings: Settings, chance: dict[str, float]
) -> dict[str, Metric]:
    metrics = means_with_control(settings.score, questions, records, settings.blind, chance)
    if settings.score != "accuracy":
        metrics["accuracy"] = plain_mean("accuracy", questions, records)
    if any(len(question.answers) > 1 for question in questions):
        metrics["accuracy_all_answers"] = plain_mean("accuracy_all_answers", questions, records)
    for name in ("lave", "lave_unread") if settings.judge else ():
        metrics[name] = plain_mean(name, questions, records)
    return metrics


def _sure(done: Sequence[Question], records: Records, settings: Settings) -> Sure:
    rows = [(question.picture, records.done[question.key].values) for question in done]
    return sure_of([(picture, values["confidence"], values[settings.score]) for picture, values in rows])


def _constant_note(constant: dict[str, tuple[str, float]]) -> str:
    told = "; ".join(f"{kind}: '{answer}' {value:.3f}" for kind, (answer, value) in constant.items())
    return f"Chance is the one answer for each kind of question that does best: {told}."


def tiny_data(folder: Path) -> Source:
    """Two pictures with a question each, in the official files."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    questions, annotations = [], []
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (32, 32), colour).save(folder / "images" / f"COCO_val2014_{number:012d}.jpg")
        questions.append({"question_id": number, "image_id": number, "question": "what colour is it?"})
        answers = [{"answer": colour, "answer_id": place} for place in range(10)]
        annotations.append({"question_id": number, "answers": answers, "answer_type": "other"})
    plain = {"data_subtype": "val2014", "questions": questions}
    (folder / "val_questions.json").write_text(json.dumps(plain), encoding="utf-8")
    (folder / "val_annotations.json").write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    return AnnotationFolder(folder)
