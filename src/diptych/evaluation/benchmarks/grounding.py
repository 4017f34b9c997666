"""Where is this phrase in this picture? A box for each, right where it overlaps the true one by half.

Accuracy at an intersection over union of 0.5, as for RefCOCO (Yu et al. 2016, arXiv 1608.00272), on any data whose
boxes have labels; a label that a picture has twice is not asked. Beside it what can be had without looking: the mean
box of the other pictures (chance), a box of their mean size in the centre, and the model's own answer to the same
phrase on another picture (`accuracy_swapped`). `unlocated` is the share of phrases for which the model gave no box.

Boxes are compared in shares of their picture's sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.visual import Box, Image
from diptych.data.pixels.decode import decode
from diptych.data.pixels.images import image_of
from diptych.data.pixels.regions import normalised_box
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.encoding import batched
from diptych.evaluation.metrics.overlap import overlap
from diptych.evaluation.progress import shown
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("locate",)
DATA = "scenes?min_objects=2"

_PAIRS = 32


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        threshold: the least intersection over union of a right box.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"grounding.threshold {self.threshold} must be above 0 and at most 1")


@dataclass(frozen=True)
class _Picture:
    """A picture and its phrases, each with its box in shares of the sides."""

    key: str
    image: Image
    width: int
    height: int
    boxes: dict[str, Box]


@dataclass(frozen=True)
class _Question:
    """A phrase: where it is, what is said without looking, and another picture."""

    key: str
    phrase: str
    picture: _Picture
    other: _Picture
    mean: Box
    centre: Box

    @property
    def true(self) -> Box:
        return self.picture.boxes[self.phrase]


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks for every phrase, on its picture and on another.

    Raises:
        DataError: fewer than two pictures that have labelled boxes.
    """
    pictures = [found for sample in records.samples(source) if (found := _picture(sample, records)) is not None]
    if len(pictures) < 2:
        raise DataError(f"{source.name} has no two pictures with labelled boxes: a phrase needs one, and a control too")
    asked = [one for one in _questions(pictures, records) if one.key not in records.done]
    for some in batched(shown(asked, "grounding", len(asked), records), _PAIRS):
        _ask(model, some, settings, records)
    return Outcome(_metrics(records))


def _picture(sample: Sample, records: Records) -> _Picture | None:
    """A picture with its phrases; None, and a record that says why, where it has none."""
    once = Counter(box.label.strip() for box in sample.boxes)
    try:
        image = image_of(sample)
        height, width = decode(image, sample.key).shape[:2]
        boxes = {
            label: _box(normalised_box(box, width, height, sample.key).tolist())
            for box in sample.boxes
            if once[label := box.label.strip()] == 1 and label
        }
    except BadSample as bad:
        records.fail(bad)
        return None
    if not boxes:
        records.add(SampleRecord(sample.key, status="skipped: no phrase with a box"))
        return None
    return _Picture(sample.key, image, width, height, boxes)


def _box(corners: Sequence[float]) -> Box:
    x0, y0, x1, y1 = corners
    return Box(x0, y0, x1, y1)


def _questions(pictures: Sequence[_Picture], records: Records) -> list[_Question]:
    others = Derangement([picture.key for picture in pictures], records.seed)
    rows = [np.array([astuple(box)[:4] for box in picture.boxes.values()], np.float64) for picture in pictures]
    sums, count = np.stack([some.sum(0) for some in rows]).sum(0), sum(len(some) for some in rows)
    found = []
    for index, picture in enumerate(pictures):
        mean, centre = _blind((sums - rows[index].sum(0)) / (count - len(rows[index])))
        for place, phrase in enumerate(picture.boxes):
            other = others.of(index, partial(_lacks, pictures, phrase))
            other = others.of(index, lambda _: True) if other is None else other
            assert other is not None, "there are two pictures"
            key = f"{picture.key}#{place}"
            found.append(_Question(key, phrase, picture, pictures[other], mean, centre))
    return found


def _lacks(pictures: Sequence[_Picture], phrase: str, index: int) -> bool:
    return phrase not in pictures[index].boxes


def _blind(mean_4: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[Box, Box]:
    """The mean box, and one of its size in the centre."""
    mean = _box(mean_4.tolist())
    half_width, half_height = (mean.x1 - mean.x0) / 2, (mean.y1 - mean.y0) / 2
    return mean, Box(0.5 - half_width, 0.5 - half_height, 0.5 + half_width, 0.5 + half_height)


def _ask(model: Predictor, questions: Sequence[_Question], settings: Settings, records: Records) -> None:
    phrases = [question.phrase for question in questions]
    own: list[Box | None] = model.locate([question.picture.image for question in questions], phrases)
    swapped: list[Box | None] = model.locate([question.other.image for question in questions], phrases)
    for question, here, there in zip(questions, own, swapped, strict=True):
        records.add(_record(question, here, there, settings.threshold))


def _record(question: _Question, here: Box | None, there: Box | None, threshold: float) -> SampleRecord:
    """What became of a phrase, by the boxes given on its picture and on the other one."""
    given = {
        "accuracy": _shares(here, question.picture),
        "accuracy_swapped": _shares(there, question.other),
        "accuracy_mean_box": question.mean,
        "accuracy_centre_box": question.centre,
    }
    agreed = {name: 0.0 if box is None else overlap(box, question.true) for name, box in given.items()}
    values = {name: float(iou >= threshold) for name, iou in agreed.items()}
    values |= {"iou": agreed["accuracy"], "unlocated": float(here is None)}
    output = None if here is None else [here.x0, here.y0, here.x1, here.y1]
    return SampleRecord(question.key, prompt=question.phrase, output=output, values=values)


def _shares(box: Box | None, picture: _Picture) -> Box | None:
    """A box in pixels as shares of its picture's sides."""
    if box is None:
        return None
    width, height = picture.width, picture.height
    return Box(box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height)


def _metrics(records: Records) -> dict[str, Metric]:
    """Means over phrases; those of one picture are one unit."""

    def mean(name: str, chance: float | None = None) -> Metric:
        values, keys = records.values(name)
        return mean_metric(values, [key.rpartition("#")[0] for key in keys], chance, records.seed)

    blind = {name: mean(name) for name in ("accuracy_mean_box", "accuracy_centre_box")}
    chance = max(metric.value for metric in blind.values())
    others = {name: mean(name) for name in ("iou", "unlocated", "accuracy_swapped")}
    return {"accuracy": mean("accuracy", chance), **others, **blind}


def tiny_data(folder: Path) -> Source:
    """Twelve scenes of one object."""
    return Scenes("test", 12, SceneConfig(size=32, objects=1))
