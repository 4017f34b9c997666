from pathlib import Path
from typing import Any

import pytest
from official_files import KnowsColours, paint, write
from PIL import Image

from diptych.core.errors import DataError
from diptych.core.records.results import read_samples
from diptych.evaluation.runner import evaluate

BOX = {"bbox_x": 0, "bbox_y": 0, "bbox_w": 20, "bbox_h": 20}


def question(picture: str, true: str, false: str, **more: Any) -> dict[str, Any]:
    return {"image_path": f"{picture}.png", "true_caption": true, "false_caption": false, **BOX, **more}


RIGHT, WRONG = ("red on blue", "blue on red"), ("blue on red", "red on blue")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paint(tmp_path, "red", "blue")
    relations = [question("red", *RIGHT, relation_name="on") for _ in range(3)]
    relations += [question("red", *WRONG, relation_name="under")]
    write(tmp_path / "visual_genome_relation.json", relations)
    many = [question("red", *(RIGHT if i else WRONG), attributes=["red", "big"]) for i in range(25)]
    few = [question("red", *WRONG, attributes=["blue", "wet"]) for _ in range(24)]
    write(tmp_path / "visual_genome_attribution.json", many + few)
    order = ["red a door", "a red door", "door a red", "a door red", "door red a"]
    orders = [{"image": "red.png", "caption_options": order}]
    orders += [{"image": "red.png", "caption_options": ["one", "two", "six", "ten", "red"]}]
    write(tmp_path / "coco_order.json", orders)
    return tmp_path


def test_the_official_files(folder: Path) -> None:
    (result,) = evaluate(KnowsColours(), ["aro"], str(folder))
    found = result.metrics
    assert (found["relation"].value, found["relation"].chance) == (pytest.approx(3 / 4), 0.5)
    assert found["relation_over_kinds"].value == pytest.approx((1 + 0) / 2)  # each relation counts the same
    assert found["attribution"].value == pytest.approx(24 / 49)
    assert found["attribution_over_kinds"].value == pytest.approx(24 / 25)  # the pair with 24 questions is left out
    assert found["attribution_over_kinds"].n == 1
    assert (found["coco_order"].value, found["coco_order"].chance) == (0.5, 0.2)
    assert "flickr_order" not in found
    assert result.counts.evaluated == 4 + 49 + 2


def test_the_question_is_about_the_box(tmp_path: Path) -> None:
    paint(tmp_path, "red")
    picture = Image.new("RGB", (20, 20), "red")
    picture.paste("blue", (12, 4, 20, 12))
    picture.save(tmp_path / "images" / "two.png")
    box = {"bbox_x": 12, "bbox_y": 4, "bbox_w": 8, "bbox_h": 8}
    asked = question("two", "blue", "red", relation_name="in") | box
    write(tmp_path / "visual_genome_relation.json", [asked, asked | BOX])
    (result,) = evaluate(KnowsColours(), ["aro"], str(tmp_path), folder=tmp_path)
    values = {record.key: record.values["relation"] for record in read_samples(tmp_path / "aro")}
    assert values == {"relation/0": 1.0, "relation/1": 0.0}
    assert result.metrics["relation"].value == 0.5


def test_missing_and_broken_pictures_are_counted(folder: Path) -> None:
    (folder / "images" / "broken.png").write_bytes(b"no picture at all")
    asked = [question(name, *RIGHT, relation_name="on") for name in ("red", "nowhere", "broken")]
    write(folder / "visual_genome_relation.json", asked)
    write(folder / "coco_order.json", [{"image": "broken.png", "caption_options": ["a", "b", "c", "d", "e"]}])
    (result,) = evaluate(KnowsColours(), ["aro"], str(folder))
    assert (result.counts.evaluated, result.counts.skipped, result.counts.failed) == (1 + 49, 1, 2)
    assert result.metrics["relation"].n == 1


def test_what_is_not_aro(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds none of ARO's files \(visual_genome_relation.json"):
        evaluate(KnowsColours(), ["aro"], str(tmp_path))
    write(tmp_path / "coco_order.json", [{"image": "a.png"}])
    with pytest.raises(DataError, match=r"coco_order.json: entry 0 has no field 'caption_options'"):
        evaluate(KnowsColours(), ["aro"], str(tmp_path))
    write(tmp_path / "coco_order.json", [{"image": "a.png", "caption_options": ["a", "b"]}])
    with pytest.raises(DataError, match=r"none of the benchmark's pictures were found"):
        evaluate(KnowsColours(), ["aro"], str(tmp_path))
