"""ARO: attribution, relation and order of words.

Yuksekgonul et al. 2022, arXiv 2210.01936. Official files: visual_genome_relation.json and
visual_genome_attribution.json (a picture, a box, a true and a false caption), coco_order.json and flickr_order.json (a
picture, its caption and four shuffles). Relations and attributes are averaged over their kinds; attributes with fewer
than 25 questions are left out. The published code puts the true caption first and takes the first maximum, so that a
constant model scores 100 % on order and 0 % on the others; here a tie is a miss, and the expectation is beside it.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.pixels.decode import decode
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.caption_choice import Choice, choice_metrics, decide, picture
from diptych.evaluation.files import AnnotationFolder, annotation_folder, check_entries, read_json

REQUIRES = ("score",)
SENTENCES = True
DATA = "aro"
OWN_FILES = True

CHANCE = {"relation": 1 / 2, "attribution": 1 / 2, "coco_order": 1 / 5, "flickr_order": 1 / 5}
FILES = {
    "relation": "visual_genome_relation.json",
    "attribution": "visual_genome_attribution.json",
    "coco_order": "coco_order.json",
    "flickr_order": "flickr_order.json",
}
_FEWEST = 25


@dataclass(frozen=True)
class Settings:
    """Choices.

    Attributes:
        images: the folder of the pictures; "" for `images` beside the files.
    """

    images: str = ""


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Scores true against false, strictly; then the means over kinds as published."""
    folder = annotation_folder(source, "aro")
    images = Path(settings.images or folder / "images")
    present = [part for part, name in FILES.items() if (folder / name).is_file()]
    if not present:
        raise DataError(f"{folder} holds none of ARO's files ({', '.join(FILES.values())})")
    entries = [(part, f"{part}/{i}", one) for part in present for i, one in enumerate(_entries(folder, part))]
    kinds = {key: entry.get("relation_name") or "_".join(entry.get("attributes", ())) for _, key, entry in entries}
    chosen = [entries[index] for index in records.within_limit(list(kinds))]
    decide(model, _choices(chosen, images, records), records)
    metrics = choice_metrics(records, tuple(CHANCE), CHANCE)
    return Outcome(metrics | _over_kinds(records, kinds))


def _entries(folder: Path, part: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = read_json(folder / FILES[part])
    questions = ("image_path", "true_caption", "false_caption", *(f"bbox_{side}" for side in "xywh"))
    check_entries(entries, ("image", "caption_options") if part.endswith("order") else questions, folder / FILES[part])
    return entries


def _choices(entries: Sequence[tuple[str, str, dict[str, Any]]], images: Path, records: Records) -> Iterator[Choice]:
    for part, key, entry in entries:
        try:
            choice = _choice(part, key, entry, images)
        except BadSample as bad:
            records.fail(BadSample(key, bad.reason, bad.detail))
            continue
        yield choice


def _choice(part: str, key: str, entry: dict[str, Any], images: Path) -> Choice:
    if part.endswith("order"):
        image = picture(images, entry["image"])
        true, *false = entry["caption_options"]
        return Choice(key, image, true, tuple(false), part)
    image = picture(images, entry["image_path"])
    cropped = _cropped(image, entry) if image is not None else None
    return Choice(key, cropped, entry["true_caption"], (entry["false_caption"],), part)


def _cropped(image: Image, entry: dict[str, Any]) -> Image:
    """The part of the picture that the question is about, as published."""
    x, y, width, height = (int(entry[f"bbox_{side}"]) for side in ("x", "y", "w", "h"))
    pixels_HWC = decode(image, image.name)
    return Image(pixels_HWC=pixels_HWC[y : y + height, x : x + width].copy(), name=image.name)


def _over_kinds(records: Records, kinds: dict[str, str]) -> dict[str, Metric]:
    """The mean over relations, and over attributes with enough questions."""
    metrics = {}
    for part in ("relation", "attribution"):
        values, keys = records.values(part)
        of_kind = Counter(kinds[key] for key in keys)
        means = []
        for kind, count in of_kind.items():
            if part == "relation" or count >= _FEWEST:
                own = [value for value, key in zip(values, keys, strict=True) if kinds[key] == kind]
                means.append(sum(own) / len(own))
        if means:
            metrics[f"{part}_over_kinds"] = Metric(sum(means) / len(means), chance=CHANCE[part], n=len(means))
    return metrics


def tiny_data(folder: Path) -> Source:
    """One made-up question of each part."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    PIL.Image.new("RGB", (40, 40), "red").save(data, "PNG")
    (folder / "images" / "a.png").write_bytes(data.getvalue())
    box = {"image_path": "a.png", "bbox_x": 4, "bbox_y": 4, "bbox_w": 30, "bbox_h": 20}
    two = {"true_caption": "a cat on a mat", "false_caption": "a mat on a cat"}
    order = {"image": "a.png", "caption_options": ["a red square", "red a square", "square a red", "a square red", "b"]}
    content = {
        "relation": [box | two | {"relation_name": "on"}],
        "attribution": [box | two | {"attributes": ["red", "big"]}],
        "coco_order": [order],
        "flickr_order": [order],
    }
    for part, entries in content.items():
        (folder / FILES[part]).write_text(json.dumps(entries), encoding="utf-8")
    return AnnotationFolder(folder)
