"""SugarCrepe: a true caption against a fluent false one, by kind of change.

Hsieh et al. 2023, arXiv 2306.14610. Seven official files ({id: {filename, caption, negative_caption}}); the pictures
are COCO's val2017, which the user names. A picture that is not there is skipped and counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError
from diptych.core.source import Source
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.caption_choice import Choice, choice_metrics, decide, picture
from diptych.evaluation.files import AnnotationFolder, annotation_folder, check_entries, read_json

REQUIRES = ("score",)
SENTENCES = True
DATA = "sugarcrepe"
OWN_FILES = True

PARTS = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")


@dataclass(frozen=True)
class Settings:
    """Choices.

    Attributes:
        images: the folder of the pictures; "" for `images` beside the files.
    """

    images: str = ""


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Scores true against false, strictly."""
    folder = annotation_folder(source, "sugarcrepe")
    decide(model, _choices(folder, Path(settings.images or folder / "images"), records), records)
    return Outcome(choice_metrics(records, PARTS, dict.fromkeys(PARTS, 1 / 2)))


def _choices(folder: Path, images: Path, records: Records) -> Iterator[Choice]:
    files = [(part, folder / f"{part}.json") for part in PARTS]
    if not any(path.is_file() for _, path in files):
        raise DataError(f"{folder} holds none of SugarCrepe's files ({PARTS[0]}.json ...)")
    entries = [(part, *one) for part, path in files if path.is_file() for one in _entries(path)]
    for index in records.within_limit([f"{part}/{number}" for part, number, _ in entries]):
        part, number, entry = entries[index]
        image = picture(images, entry["filename"])
        yield Choice(f"{part}/{number}", image, entry["caption"], (entry["negative_caption"],), part)


def _entries(path: Path) -> list[tuple[str, dict[str, str]]]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not SugarCrepe's: it should map numbers to questions")
    check_entries(content.values(), ("filename", "caption", "negative_caption"), path)
    return list(content.items())


def tiny_data(folder: Path) -> Source:
    """Two made-up questions with their pictures."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (32, 32), colour).save(folder / "images" / name)
    for part in PARTS[:2]:
        entries = {
            "0": {"filename": "a.png", "caption": "a red square", "negative_caption": "a blue square"},
            "1": {"filename": "b.png", "caption": "a blue square", "negative_caption": "a red square"},
        }
        (folder / f"{part}.json").write_text(json.dumps(entries), encoding="utf-8")
    return AnnotationFolder(folder)
