"""Pictures are made ready ahead of the model, bit for bit as it would have made them, and none waits for the whole."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colours import ColourEncoder, fill, picture
from PIL import Image as Pillow

from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.pixels.images import ImagePreprocessing, Preprocessing, pixels_of
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.contrastive import clip
from diptych.models.masked import flava
from diptych.models.pretrained_backbone import llava
from diptych.serving.job import JobOptions, ask_all
from diptych.serving.pictures import PictureFolder


def photographs(folder: Path, count: int = 5) -> Path:
    """Pictures of several sizes and shapes."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    for index in range(count):
        height, width = rng.integers(20, 120, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).resize((width * 2, height * 2)).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("resize", ["shorter_crop", "squash"])
def test_pictures_made_ready_are_those_that_the_model_makes(resize: Any, tmp_path: Path) -> None:
    folder, model, seen = photographs(tmp_path / "photos"), ColourEncoder(), []
    model.preprocessing = ImagePreprocessing(32, resize, views=None)

    def ask(keys: Sequence[str], images: Sequence[Image]) -> list[dict[str, str]]:
        seen.append(pixels_of(images, model.preprocessing, 1))
        return [{}] * len(keys)

    ask_all(model, PictureFolder(folder), ask, JobOptions(2))
    expected = pixels_of([folder / f"{index}.png" for index in range(5)], model.preprocessing, 1)
    assert torch.equal(torch.cat(seen), expected)


@pytest.mark.parametrize("module", [clip, flava, llava])
def test_a_model_answers_the_same_of_them(module: Any, tmp_path: Path) -> None:
    scenes = Scenes("train", 8, SceneConfig(objects=1, size=32))
    model = next(iter(module.tiny_tasks([scenes[index] for index in range(8)]).values())).eval().predictor()
    assert isinstance(model, Preprocessing)
    folder, texts = photographs(tmp_path / "photos", 3), ["a red square", "blue"]
    rows: list[torch.Tensor] = []

    def ask(keys: Sequence[str], images: Sequence[Image]) -> list[dict[str, str]]:
        rows.append(model.score(list(images), texts))
        return [{}] * len(keys)

    ask_all(model, PictureFolder(folder), ask, JobOptions(3))
    expected = model.score([folder / f"{index}.png" for index in range(3)], texts)
    assert torch.equal(rows[0], expected)


class Watched(PictureFolder):
    """A folder that says which of its pictures were read."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.read: dict[int, threading.Event] = {index: threading.Event() for index in range(len(self))}

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        self.read[index].set()
        return sample


def test_the_next_pictures_are_read_while_the_model_is_at_work(tmp_path: Path) -> None:
    source = Watched(fill(tmp_path / "photos", 2))

    def ask(keys: Sequence[str], images: Sequence[Image]) -> list[dict[str, str]]:
        following = min(source.keys().index(keys[-1]) + 1, len(source) - 1)
        assert source.read[following].wait(20), "the next picture waits for the model"
        return [{}] * len(keys)

    done = ask_all(ColourEncoder(), source, ask, JobOptions(1))
    assert len(done.answered) == 6 and 0 < done.model_seconds <= done.seconds


def test_what_the_model_refuses_is_left_out_alone(tmp_path: Path) -> None:
    source, told = PictureFolder(fill(tmp_path / "photos", 2)), []

    def ask(keys: Sequence[str], images: Sequence[Image]) -> list[dict[str, str]]:
        if "green/001.png" in keys:
            raise BadSample("picture 3", "no regions")
        return [{"key": key} for key in keys]

    done = ask_all(ColourEncoder(), source, ask, JobOptions(4), told.append)
    assert [one.row["key"] for one in done.answered] == [key for key in source.keys() if key != "green/001.png"]
    assert [(one.key, one.reason) for one in done.skipped] == [("green/001.png", "picture 3: no regions")]
    assert sum(told) == 6


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is found all the same."""
    folder = fill(tmp_path / "photos", 1)
    locked = folder / "green"
    scandir = __import__("os").scandir

    def refuse(place: Any) -> Any:
        if Path(place) == locked:
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr("os.scandir", refuse)
    source = PictureFolder(folder)
    assert source.keys() == ["blue/000.png", "red/000.png"]
    assert source.problems == {"folder cannot be read (Permission denied)": ["green"]}


def test_the_fingerprint_changes_with_a_picture(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 1)
    before = PictureFolder(folder).fingerprint()
    assert PictureFolder(folder).fingerprint() == before
    picture("red", 7).save(folder / "blue" / "000.png")
    assert PictureFolder(folder).fingerprint() != before
