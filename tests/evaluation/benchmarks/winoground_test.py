import json
from pathlib import Path
from typing import Any

import pytest
from official_files import KnowsColours, paint

from diptych.core.errors import DataError
from diptych.core.records.results import read_samples
from diptych.evaluation.runner import evaluate


def example(number: int, first: str, second: str, captions: tuple[str, str], tag: str) -> dict[str, Any]:
    pictures = {"image_0": first, "image_1": second}
    return {"id": number, **pictures, "caption_0": captions[0], "caption_1": captions[1], "tag": tag}


EXAMPLES = [
    example(0, "red", "blue", ("red on blue", "blue on red"), "Object"),  # everything right
    example(1, "blue", "red", ("red on blue", "blue on red"), "Object"),  # everything wrong
    example(2, "red", "blue", ("a red", "a lime"), "Relation"),  # the second text beats nothing: ties
    example(3, "red", "lime", ("red", "lime"), "Relation"),  # no picture of lime
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paint(tmp_path, "red", "blue")
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in EXAMPLES), encoding="utf-8")
    return tmp_path


def test_the_official_files(folder: Path) -> None:
    (result,) = evaluate(KnowsColours(), ["winoground"], str(folder), folder=folder / "out")
    found = result.metrics
    for name, chance in (("text", 1 / 4), ("image", 1 / 4), ("group", 1 / 6)):
        assert (found[name].value, found[name].chance, found[name].n) == (pytest.approx(1 / 3), chance, 3)
        assert found[f"{name}_Object"].value == pytest.approx(1 / 2)
        assert found[f"{name}_Relation"].value == 0.0
    # Example 2: red scores -2 with its caption, all else is equal: of the 6 orders of the equal three,
    # the text score needs s(1, 1) > s(0, 1), the image score s(1, 1) > s(1, 0): half of them each, both in a third.
    assert found["text_expected"].value == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert found["image_expected"].value == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert found["group_expected"].value == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert (result.counts.evaluated, result.counts.skipped) == (3, 1)
    (first, *_) = read_samples(folder / "out" / "winoground")
    assert first.prompt == ["red on blue", "blue on red"]
    assert first.output == [[0.0, -7.0], [-8.0, 0.0]]  # rows are captions


def test_wrong_folders(folder: Path) -> None:
    for picture in (folder / "images").iterdir():
        picture.unlink()
    with pytest.raises(DataError, match=r"none of Winoground's pictures were found in .*images"):
        evaluate(KnowsColours(), ["winoground"], str(folder))
    (folder / "examples.jsonl").write_text('{"id": 0, "image_0": "a"}\n')
    with pytest.raises(DataError, match=r"examples.jsonl: entry 0 has no field 'image_1'"):
        evaluate(KnowsColours(), ["winoground"], str(folder))
    (folder / "examples.jsonl").write_text('{"id": 0, "ima')
    with pytest.raises(DataError, match=r"examples.jsonl: a line is not JSON"):
        evaluate(KnowsColours(), ["winoground"], str(folder))
    (folder / "examples.jsonl").unlink()
    with pytest.raises(DataError, match=r"no file at .*examples.jsonl"):
        evaluate(KnowsColours(), ["winoground"], str(folder))
