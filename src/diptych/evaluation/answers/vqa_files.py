"""Questions with answers of people in the formats in which they are published, beside a folder of pictures.

VQA, OK-VQA           {"questions": [{"question_id", "image_id", "question"}]} in one file, and in another
                      {"annotations": [{"question_id", "answers": [{"answer"}], "answer_type"}]}
VizWiz                [{"image", "question", "answers": [{"answer"}], "answer_type"}], or as VQA
ChartQA               [{"imgname", "query", "label"}]
DocVQA, TextVQA       {"data": [{"questionId" or "question_id", "question", "image" or "image_id", "answers": ["..."]}]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diptych.core.errors import DataError
from diptych.core.records.results import SampleRecord
from diptych.evaluation.answers.questions import Question
from diptych.evaluation.benchmark import Records
from diptych.evaluation.files import check_entries, read_json
from diptych.evaluation.picture_folder import PictureFolder

_ENDINGS = ("", ".jpg", ".png", ".jpeg")


@dataclass(frozen=True)
class VqaFiles:
    """Where the questions and the answers are.

    Attributes:
        questions: the file of the questions, or of both.
        annotations: the file of the answers; None where they are in the first.
    """

    questions: Path
    annotations: Path | None


def holds_vqa(folder: Path) -> bool:
    """Whether there is a JSON file that looks like questions."""
    return bool(_named(folder, "question") or _with_answers(folder))


def find_vqa(folder: Path, questions: str, annotations: str) -> VqaFiles:
    """The files of a folder.

    Args:
        questions, annotations: their names where there are several; "" to look for them.

    Raises:
        DataError: there are none, or more than one and none is named.
    """
    if not questions and not _named(folder, "question"):
        return VqaFiles(_only(_with_answers(folder), folder, "questions"), None)
    asked = _chosen(folder, questions, "questions")
    if not annotations and "questions" not in read_json(asked):
        return VqaFiles(asked, None)
    return VqaFiles(asked, _chosen(folder, annotations, "annotations"))


def _chosen(folder: Path, name: str, kind: str) -> Path:
    if not name:
        return _only(_named(folder, kind.removesuffix("s")), folder, kind)
    if not (folder / name).is_file():
        raise DataError(f"no file at {folder / name}: vqa.{kind} names a file of the folder of the data")
    return folder / name


def _only(found: Sequence[Path], folder: Path, kind: str) -> Path:
    if not found:
        raise DataError(f"{folder} has no file of {kind}: expected a JSON file with '{kind[:-1]}' in its name")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder} has several files of {kind} ({names}): choose one with --set vqa.{kind}=NAME")
    return found[0]


def _named(folder: Path, word: str) -> list[Path]:
    return [path for path in sorted(folder.glob("*.json")) if word in path.name.lower()]


def _with_answers(folder: Path) -> list[Path]:
    """JSON files whose first letters promise questions with their answers."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with path.open(encoding="utf-8") as file:
            head = file.read(2000)
        known = ('"data"', '"question'), ('"imgname"', '"query"'), ('"question"', '"answers"')
        if any(all(name in head for name in names) for names in known):
            found.append(path)
    return found


def read_vqa(files: VqaFiles, pictures: PictureFolder, records: Records) -> list[Question]:
    """The questions, in the file's order; one without answers is recorded as skipped.

    Raises:
        DataError: a file is not in one of the formats, has no question, or an annotation has no question.
    """
    entries, answers = _entries(files)
    if not entries:
        raise DataError(f"{files.questions} holds no questions")
    found = []
    for index in records.within_limit([str(entry["question_id"]) for entry in entries]):
        entry = entries[index]
        key = str(entry["question_id"])
        about = answers.get(key, {})
        said = tuple(_said(about.get("answers") or []))
        if not said:
            records.add(SampleRecord(key, status="skipped: no answers"))
            continue
        name, kind = str(entry["image_id"]), str(about.get("answer_type") or about.get("question_type") or "other")
        image = partial(pictures.read, list(_names(name, str(entry.get("subtype", "")))))
        choices = tuple(str(one) for one in entry.get("multiple_choices") or ())
        found.append(Question(key, str(entry["question"]), image, name, said, choices, kind))
    if not found:
        raise DataError(f"{files.questions}: none of the questions has an answer of people to compare with")
    return _few_kinds(found)


def _entries(files: VqaFiles) -> tuple[list[dict[str, Any]], dict[str, Mapping[str, Any]]]:
    """Questions in one form, and what is known of each by its id."""
    plain = read_json(files.questions)
    if files.annotations is None:
        if isinstance(plain, list) and plain and isinstance(plain[0], dict) and "imgname" in plain[0]:
            entries = _charts(plain, files.questions)
        else:
            own = plain if isinstance(plain, list) else _list_of(plain, "data", files.questions)
            entries = _documents(own, files.questions)
        return entries, {str(entry["question_id"]): entry for entry in entries}
    entries = _list_of(plain, "questions", files.questions)
    check_entries(entries, ("question_id", "image_id", "question"), files.questions)
    annotations = _list_of(read_json(files.annotations), "annotations", files.annotations)
    check_entries(annotations, ("question_id",), files.annotations)
    asked = {str(entry["question_id"]) for entry in entries}
    for one in annotations:
        if str(one["question_id"]) not in asked:
            raise DataError(
                f"{files.annotations}: the annotation of question {one['question_id']} has no question in "
                f"{files.questions.name}: the two files are of different parts of the data"
            )
    subtype = str(plain.get("data_subtype", ""))
    return [entry | {"subtype": subtype} for entry in entries], {str(one["question_id"]): one for one in annotations}


def _charts(entries: Sequence[Any], path: Path) -> list[dict[str, Any]]:
    check_entries(entries, ("imgname", "query", "label"), path)
    return [
        {"question_id": number, "image_id": one["imgname"], "question": one["query"], "answers": [one["label"]]}
        for number, one in enumerate(entries)
    ]


def _documents(entries: Sequence[Any], path: Path) -> list[dict[str, Any]]:
    check_entries(entries, ("question",), path)
    found = []
    for number, entry in enumerate(entries):
        image = entry.get("image", entry.get("image_id"))
        key = entry.get("question_id", entry.get("questionId", image))
        if key is None or image is None:
            raise DataError(f"{path}: entry {number} has no image")
        types = entry.get("question_types") or []
        kind = entry.get("answer_type") or (types[0] if len(types) == 1 else "several kinds" if types else "")
        found.append(
            {
                "question_id": key,
                "image_id": image,
                "question": entry["question"],
                "answers": entry.get("answers"),
                "answer_type": kind,
            }
        )
    return found


def _list_of(plain: Any, name: str, path: Path) -> list[Any]:
    found = plain.get(name) if isinstance(plain, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{path} has no list of '{name}', which the official file has")
    return found


def _said(answers: Sequence[Any]) -> Iterator[str]:
    for one in answers:
        text = one.get("answer") if isinstance(one, dict) else one
        if text is not None:
            yield str(text)


def _names(name: str, subtype: str) -> Iterator[str]:
    """What the picture's file may be called."""
    yield from (f"{name}{ending}" for ending in _ENDINGS)
    if name.isdigit():
        yield f"COCO_{subtype}_{int(name):012d}.jpg"
        yield f"{int(name):012d}.jpg"
    if "/" in name:
        yield name.rpartition("/")[2]


def _few_kinds(questions: list[Question], most: int = 12) -> list[Question]:
    """Where there are more kinds than a table holds, all are one."""
    if len(Counter(question.kind for question in questions)) <= most:
        return questions
    return [replace(question, kind="other") for question in questions]
