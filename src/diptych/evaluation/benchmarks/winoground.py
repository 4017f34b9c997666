"""Winoground: two pictures, two captions of the same words.

Thrush et al. 2022, arXiv 2204.03162. The official files: examples.jsonl (id, image_0, image_1, caption_0, caption_1,
tag) and images/<name>.png. Text, image and group score, strict, with the expectation under random tie-breaking beside
them (chance 1/4, 1/4, 1/6) and the scores by tag. What a score does not support is left out and text
likelihoods are corrected as in scene_pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError
from diptych.core.records.results import SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.benchmarks.scene_pairs import CHANCE, pair_extras, pair_metrics, score_pair
from diptych.evaluation.blind_likelihood import ALPHA, check_alpha
from diptych.evaluation.caption_choice import picture
from diptych.evaluation.files import AnnotationFolder, annotation_folder, check_entries, read_json_lines

REQUIRES = ("score",)
SENTENCES = True
DATA = "winoground"
OWN_FILES = True


@dataclass(frozen=True)
class Settings:
    """Choices.

    Attributes:
        images: the folder of the pictures; "" for `images` beside the file.
        blind_alpha: weight of log p(text) in the correction of text likelihoods; 0 for no corrected numbers.
    """

    images: str = ""
    blind_alpha: float = ALPHA

    def __post_init__(self) -> None:
        check_alpha(self.blind_alpha, "winoground")


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Scores the four combinations of every example.

    Raises:
        DataError: none of the pictures were found.
    """
    folder = annotation_folder(source, "winoground")
    for sample in _examples(folder, Path(settings.images or folder / "images"), records):
        if sample.key not in records.done:
            score_pair(model, sample, records, settings.blind_alpha)
    if not any(records.values(name)[0] for name in CHANCE):
        raise DataError(f"none of Winoground's pictures were found in {settings.images or folder / 'images'}")
    return Outcome(pair_metrics(records), pair_extras(model, settings.blind_alpha))


def _examples(folder: Path, images: Path, records: Records) -> Iterator[Sample]:
    entries = read_json_lines(folder / "examples.jsonl")
    check_entries(entries, ("id", "image_0", "image_1", "caption_0", "caption_1"), folder / "examples.jsonl")
    for index in records.within_limit([str(entry["id"]) for entry in entries]):
        entry, key = entries[index], str(entries[index]["id"])
        pair = [picture(images, f"{entry[name]}.png") for name in ("image_0", "image_1")]
        found = tuple(one for one in pair if one is not None)
        if len(found) < 2:
            records.add(SampleRecord(key, status="skipped: no picture"))
            continue
        yield Sample(key, found, (entry["caption_0"], entry["caption_1"]), meta={"kind": entry.get("tag", "")})


def tiny_data(folder: Path) -> Source:
    """One made-up example."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, colour in (("ex_0_img_0", "red"), ("ex_0_img_1", "blue")):
        Image.new("RGB", (32, 32), colour).save(folder / "images" / f"{name}.png")
    captions = {"caption_0": "a red square, not blue", "caption_1": "a blue square, not red"}
    example = {"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "tag": "Object", **captions}
    (folder / "examples.jsonl").write_text(json.dumps(example) + "\n", encoding="utf-8")
    return AnnotationFolder(folder)
