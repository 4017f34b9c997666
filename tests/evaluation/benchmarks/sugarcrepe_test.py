from pathlib import Path

import pytest
from official_files import KnowsColours, paint, write

from diptych.core.errors import DataError
from diptych.core.records.results import read_samples
from diptych.evaluation.runner import evaluate


def question(picture: str, true: str, false: str) -> dict[str, str]:
    return {"filename": f"{picture}.png", "caption": true, "negative_caption": false}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paint(tmp_path, "red", "blue")
    replaced = {
        "0": question("red", "a red door", "a lime door"),
        "1": question("blue", "a lime door", "a blue door"),  # the model prefers the false one
        "7": question("red", "red door", "red roof"),  # a tie
        "9": question("lime", "a lime door", "a red door"),  # no picture
    }
    write(tmp_path / "replace_att.json", replaced)
    write(tmp_path / "swap_obj.json", {"0": question("blue", "blue on red", "red on blue")})
    return tmp_path


def test_the_official_files(folder: Path) -> None:
    (result,) = evaluate(KnowsColours(), ["sugarcrepe"], str(folder), folder=folder / "out")
    found = result.metrics
    assert (found["replace_att"].value, found["replace_att"].n) == (pytest.approx(1 / 3), 3)
    assert found["replace_att_expected"].value == pytest.approx(1.5 / 3)
    assert found["replace_att_tie_rate"].value == pytest.approx(1 / 3)
    assert (found["swap_obj"].value, found["swap_obj"].n) == (1.0, 1)
    assert found["macro"].value == pytest.approx((1 / 3 + 1) / 2)
    assert {metric.chance for name, metric in found.items() if not name.endswith("tie_rate")} == {0.5}
    assert "add_att" not in found
    assert (result.counts.evaluated, result.counts.skipped) == (4, 1)
    status = {record.key: record.status for record in read_samples(folder / "out" / "sugarcrepe")}
    assert status["replace_att/9"] == "skipped: no picture"


def test_pictures_elsewhere_and_a_limit_over_all_files(folder: Path) -> None:
    (folder / "images").rename(folder / "val2017")
    with pytest.raises(DataError, match=r"none of the benchmark's pictures were found: .* images=FOLDER"):
        evaluate(KnowsColours(), ["sugarcrepe"], str(folder))
    settings = {"sugarcrepe": {"images": str(folder / "val2017")}}
    (result,) = evaluate(KnowsColours(), ["sugarcrepe"], str(folder), settings=settings, limit=4)
    assert result.counts.evaluated + result.counts.skipped == 4


def test_what_is_not_sugarcrepe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder at sugarcrepe: this benchmark reads its official files"):
        evaluate(KnowsColours(), ["sugarcrepe"])
    with pytest.raises(DataError, match="holds none of SugarCrepe's files"):
        evaluate(KnowsColours(), ["sugarcrepe"], str(tmp_path))
    with pytest.raises(DataError, match="reads its own files: name their folder with --data"):
        from diptych.data.scenes.source import Scenes

        evaluate(KnowsColours(), ["sugarcrepe"], Scenes("test", 3))
    write(tmp_path / "add_obj.json", {"0": {"filename": "a.png", "caption": "a"}})
    with pytest.raises(DataError, match=r"add_obj.json: entry 0 has no field 'negative_caption'"):
        evaluate(KnowsColours(), ["sugarcrepe"], str(tmp_path))
    write(tmp_path / "add_obj.json", [1, 2])
    with pytest.raises(DataError, match=r"add_obj.json is not SugarCrepe's"):
        evaluate(KnowsColours(), ["sugarcrepe"], str(tmp_path))
    (tmp_path / "add_obj.json").write_text('{"0": {"fil')
    with pytest.raises(DataError, match=r"add_obj.json is truncated or not JSON"):
        evaluate(KnowsColours(), ["sugarcrepe"], str(tmp_path))
