"""VisDial's files: dialogs of ten rounds about a picture, each with a hundred candidate answers.

visdial_1.0_val.json                    {"data": {"questions": [...], "answers": [...], "dialogs": [{"image_id",
                                        "caption", "dialog": [{"question", "answer", "answer_options", "gt_index"}]}]}}
visdial_1.0_val_dense_annotations.json  [{"image_id", "round_id", "gt_relevance" or "relevance": a number a candidate}]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diptych.core.errors import DataError
from diptych.core.records.results import SampleRecord
from diptych.evaluation.answers.ranked_answers import Ranked
from diptych.evaluation.benchmark import Records
from diptych.evaluation.files import check_entries, read_json
from diptych.evaluation.picture_folder import PictureFolder

_PARTS = ("questions", "answers", "dialogs")


def holds_visdial(folder: Path) -> bool:
    """Whether there is a file of dialogs."""
    return bool(_dialogs(folder))


def read_visdial(folder: Path, images: str, records: Records) -> list[Ranked]:
    """Every round that has its answer.

    Raises:
        DataError: not one file of dialogs, or one in another form; dense annotations of a dialog that is not there.
    """
    files = _dialogs(folder)
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise DataError(f"{folder} should have one file of VisDial's dialogs, and has: {names}")
    (path,) = files
    data = _data(path)
    pictures = PictureFolder(folder, images)
    dense = _dense(folder, {str(one["image_id"]) for one in data["dialogs"]})
    found = []
    for place in records.within_limit([str(one["image_id"]) for one in data["dialogs"]]):
        found += _rounds(data, data["dialogs"][place], pictures, dense, path, records)
    if not found:
        raise DataError(f"{path} has no round with its answer: the test part is scored by its server")
    return found


def _dialogs(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*visdial*.json")) if "dense" not in path.name]


def _data(path: Path) -> Mapping[str, Any]:
    plain = read_json(path)
    data = plain.get("data") if isinstance(plain, dict) else None
    if not isinstance(data, dict) or not all(isinstance(data.get(part), list) for part in _PARTS):
        raise DataError(f"{path} has no data with questions, answers and dialogs, which VisDial's file has")
    if not data["dialogs"]:
        raise DataError(f"{path} holds no dialogs")
    check_entries(data["dialogs"], ("image_id", "caption", "dialog"), path)
    return data


def _dense(folder: Path, known: set[str]) -> dict[tuple[str, int], list[float]]:
    """Relevances by picture and round, the first of which is 1."""
    found = {}
    for path in sorted(folder.glob("*dense*.json")):
        entries = read_json(path)
        check_entries(entries, ("image_id", "round_id"), path)
        for one in entries:
            if str(one["image_id"]) not in known:
                raise DataError(f"{path}: an annotation is of picture {one['image_id']}, which no dialog is about")
            relevance = one.get("gt_relevance", one.get("relevance"))
            if relevance is None:
                raise DataError(f"{path}: the annotation of picture {one['image_id']} has no gt_relevance")
            found[str(one["image_id"]), int(one["round_id"])] = [float(value) for value in relevance]
    return found


def _rounds(
    data: Mapping[str, Any], dialog: Mapping[str, Any], pictures: PictureFolder,
    dense: Mapping[tuple[str, int], Sequence[float]], path: Path, records: Records,
) -> list[Ranked]:  # fmt: skip
    """The rounds of one dialog, each with all that was said before it."""
    unit, said, found = str(dialog["image_id"]), [str(dialog["caption"])], []
    image = partial(pictures.read, _names(unit))
    for number, one in enumerate(dialog["dialog"], 1):
        question = f"{data['questions'][one['question']]}?"
        key = f"{unit}/{number}"
        if "gt_index" not in one or "answer_options" not in one:
            records.add(SampleRecord(key, status="skipped: no answers"))
        else:
            options = tuple(str(data["answers"][index]) for index in one["answer_options"])
            relevance = tuple(dense.get((unit, number), ()))
            if len(relevance) not in (0, len(options)):
                raise DataError(f"{path}: {key} has {len(options)} candidates and {len(relevance)} relevances")
            found.append(Ranked(key, unit, image, tuple(said), question, options, int(one["gt_index"]), relevance))
        if "answer" in one:
            said.append(f"{question} {data['answers'][one['answer']]}.")
    return found


def _names(image_id: str) -> list[str]:
    number = f"{int(image_id):012d}.jpg" if image_id.isdigit() else f"{image_id}.jpg"
    parts = ("VisualDialog_val2018", "VisualDialog_test2018", "COCO_train2014", "COCO_val2014")
    return [*(f"{part}_{number}" for part in parts), number, image_id]
