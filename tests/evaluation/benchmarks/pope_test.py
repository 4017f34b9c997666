"""POPE on official files, on scenes and on made-up boxes, by answerers of known habits."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from answerers import Narrator, Scorer, Writer, colour_of

from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Result, read_samples
from diptych.core.sample import Box, Sample
from diptych.core.visual import Image
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.runner import evaluate


def evaluated(model: Any, data: Any, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["pope"], data, folder=folder, settings={"pope": settings})
    return result


def sees(visual: Any, question: str) -> str:
    return "Yes, there is." if colour_of(visual) in question else "There is not."


def write(path: Path, rows: Sequence[tuple[int, str, str, str]]) -> None:
    names = ("question_id", "image", "text", "label")
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for colour in ("red", "blue"):
        PIL.Image.new("RGB", (20, 20), colour).save(tmp_path / "images" / f"{colour}.jpg")
    write(
        tmp_path / "coco_pope_random.json",
        [
            (1, "red.jpg", "Is there a red thing in the image?", "yes"),
            (2, "red.jpg", "Is there a blue thing in the image?", "no"),
            (3, "blue.jpg", "Is there a blue thing in the image?", "yes"),
            (4, "blue.jpg", "Is there a red thing in the image?", "no"),
        ],
    )
    # A made-up error of the labels shows that they are what counts.
    write(tmp_path / "coco_pope_popular.json", [(1, "red.jpg", "Is there a red thing in the image?", "no")])
    return tmp_path


def test_the_official_files(folder: Path) -> None:
    for model in (Writer(sees), Narrator(sees)):
        found = evaluated(model, str(folder)).metrics
        assert {name: found[f"random_{name}"].value for name in ("accuracy", "f1", "precision", "recall")} == {
            "accuracy": 1, "f1": 1, "precision": 1, "recall": 1,
        }  # fmt: skip
        assert (found["random_yes_rate"].value, found["random_accuracy"].n) == (0.5, 2)
        assert (found["popular_accuracy"].value, found["popular_yes_rate"].value) == (0.0, 1.0)
        assert "adversarial_accuracy" not in found
        # Of the other picture everything is the other way round.
        assert found["accuracy_other_picture"].value == pytest.approx(1 / 5)
    chosen = evaluated(Scorer(lambda visual, text: "yes" if colour_of(visual) in text else "no"), str(folder))
    assert chosen.metrics["random_accuracy"].value == 1.0


def test_who_always_says_yes(folder: Path) -> None:
    result = evaluated(Writer(lambda *_: "yes"), str(folder), folder / "out")
    found = {name: metric.value for name, metric in result.metrics.items() if name.startswith("random")}
    assert found == {
        "random_accuracy": 0.5, "random_f1": pytest.approx(2 / 3), "random_precision": 0.5, "random_recall": 1.0,
        "random_yes_rate": 1.0,
    }  # fmt: skip
    (line,) = [record for record in read_samples(folder / "out" / "pope") if record.key == "random/2"]
    assert line.output == {"answer": "yes", "blind": "yes", "read": "yes", "label": "no"}


def test_scenes_know_what_is_there() -> None:
    scenes = Scenes("test", 12, SceneConfig(size=32, min_objects=2))
    present = {scenes[i].image.pixels_HWC.tobytes(): scenes[i].meta["present"] for i in range(12)}  # type: ignore[union-attr]

    def knows(visual: Any, question: str) -> str:
        name = re.fullmatch(r"is there an? (.*)\?", question)
        assert name is not None
        return "yes" if name[1] in present[visual.pixels_HWC.tobytes()] else "no"

    found = evaluated(Writer(knows), scenes).metrics
    for way in ("random", "popular", "adversarial"):
        assert found[f"{way}_accuracy"].value == 1.0
        assert found[f"{way}_yes_rate"].value == 0.5  # as many are absent as present
    assert found["accuracy"].value == 1.0 and found["accuracy_gain"].value > 0.2


class Boxed:
    """Ten pictures with boxes: a kitchen has a cup and a table, a street a car and a tree, and one a lone table."""

    name = "boxed"

    def __len__(self) -> int:
        return 10

    def keys(self) -> Sequence[str]:
        return [str(index) for index in range(10)]

    def fingerprint(self) -> str:
        return "boxed"

    def __getitem__(self, index: int) -> Sample:
        names = ("table",) if index == 0 else ("cup", "table") if index % 2 else ("car", "tree")
        image = Image(pixels_HWC=np.full((8, 8, 3), 10 * index, np.uint8))
        return Sample(str(index), (image,), boxes=tuple(Box(0, 0, 1, 1, name) for name in names))


def test_questions_of_boxes(tmp_path: Path) -> None:
    """Who says what usually stands in a kitchen is right of kitchens, and sees a cup on the lone table."""
    kitchen = Writer(lambda visual, question: "yes" if re.search("cup|table", question) else "no")
    found = evaluated(kitchen, Boxed(), tmp_path, each=2, blind="none").metrics
    # 5 kitchens are answered rightly, 4 streets wrongly, all with two of each; of the table the cup is wrong.
    assert found["adversarial_accuracy"].value == pytest.approx((5 * 4 + 0 + 1) / (9 * 4 + 2))
    assert found["adversarial_recall"].value == pytest.approx((5 * 2 + 1) / 19)
    lines = {record.key: record for record in read_samples(tmp_path / "pope")}
    assert lines["0#cup"].output == {"answer": "yes", "blind": None, "read": "yes", "label": "no"}
    assert lines["0#cup"].prompt == "is there a cup?"


def test_what_cannot_be_asked_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="has no picture with labelled boxes"):
        evaluated(Writer(sees), Scenes("test", 1, SceneConfig(objects=1)))
    with pytest.raises(ConfigError, match=r"need \{\}"):
        evaluated(Writer(sees), str(folder), question="is there one?")
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="not one of POPE's 5 questions could be asked"):
        evaluated(Writer(sees), str(folder))
    write(folder / "coco_pope_random.json", [(1, "red.jpg", "Is it?", "maybe")])
    with pytest.raises(DataError, match="question 1 has the label 'maybe': expected yes or no"):
        evaluated(Writer(sees), str(folder))
    write(folder / "coco_pope_random.json", [])
    with pytest.raises(DataError, match=r"coco_pope_random.json holds no questions"):
        evaluated(Writer(sees), str(folder))
    (folder / "coco_pope_random.json").write_text('{"question_id": 1, "image": "a", "text": "b"}\n')
    with pytest.raises(DataError, match="entry 0 has no field 'label'"):
        evaluated(Writer(sees), str(folder))


def test_pope_as_it_is_published(shared_data: Path, tmp_path: Path) -> None:
    files = shared_data / "eval" / "pope" / "coco"
    if not files.is_dir():
        pytest.skip(f"no POPE at {files}")
    name = json.loads((files / "coco_pope_random.json").read_text().splitlines()[0])["image"]
    PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    result = evaluated(Writer(lambda *_: "yes"), str(files), images=str(tmp_path), blind="none")
    assert (result.counts.evaluated, result.counts.skipped) == (18, 9000 - 18)
    for way in ("random", "popular", "adversarial"):
        assert result.metrics[f"{way}_f1"].value == pytest.approx(2 / 3)
        assert result.metrics[f"{way}_accuracy"].value == 0.5
