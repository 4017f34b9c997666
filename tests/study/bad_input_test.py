"""What goes wrong in one run or one benchmark is written down with its reason, and the rest goes on."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli import main as diptych
from diptych.core.records.results import read_result
from diptych.data.open import open_source
from diptych.study import one_run
from diptych.study.abilities import Ability
from diptych.study.config import StudyBudget, StudyConfig, claim
from diptych.study.findings import read_runs
from diptych.study.held_out_part import with_test_part
from diptych.study.page import render

SIZE = "image.size=16"
SMALL = (f"clip_tiny.{SIZE}", "clip_tiny.batch_size=4", "clip_tiny.model.vision.image_size=16")


def study(data: Path | str, *options: str, recipes: tuple[str, ...] = ("clip_tiny",), seeds: int = 1) -> StudyConfig:
    return StudyConfig(recipes, str(data), StudyBudget(samples=8), seeds, 6, options)


def do(config: StudyConfig, out: Path) -> tuple[list[int], str]:
    """Each run's exit code, and the page."""
    config = with_test_part(config, out)
    codes = []
    for run in config.runs():
        claim(run, out / run.name)
        codes.append(one_run.main(out / run.name))
    return codes, render(config, read_runs(config, out))


def draw(folder: Path, count: int, broken: int = 0, captions: bool = True) -> Path:
    """Pictures with a table of captions, or by class; the first `broken` end too early."""
    folder.mkdir()
    places = [folder / ("" if captions else ("cat", "dog")[i % 2]) / f"{i}.png" for i in range(count)]
    for i, place in enumerate(places):
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (4 * i, 0, 99)).save(place)
        if i < broken:
            place.write_bytes(place.read_bytes()[:50])
    if captions:
        with (folder / "captions.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image", "caption"), *((f"{i}.png", f"shade {i}") for i in range(count))])
    return folder


def test_a_family_without_what_it_needs_fails_alone(tmp_path: Path) -> None:
    """Class folders have no captions: CLIP cannot be trained on them, a classifier can."""
    data = draw(tmp_path / "data", 20, captions=False)
    options = (*SMALL, f"vit_tiny.{SIZE}", "vit_tiny.batch_size=4", "vit_tiny.model.vision.image_size=16")
    codes, page = do(study(data, *options, recipes=("clip_tiny", "vit_tiny")), tmp_path / "out")
    assert codes == [1, 0]
    assert "training failed" in page and "caption" in page.partition("training failed")[2][:300]


def test_a_seed_that_diverges_fails_alone(tmp_path: Path) -> None:
    data = draw(tmp_path / "data", 20)
    config = study(data, *SMALL, "clip_tiny.optimizer.lr=1e30")
    codes, page = do(config, tmp_path / "out")
    assert codes == [1] and "training failed" in page and "not finite" in page


def test_three_broken_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    data, out = draw(tmp_path / "data", 60), tmp_path / "out"
    config = replace(study(data, *SMALL), limit=12)
    held = list(open_source(with_test_part(config, out).reference, "test").keys())
    for key in held[:3]:
        (data / key).write_bytes((data / key).read_bytes()[:50])
    codes, _ = do(config, out)
    counts = read_result(out / "clip_tiny-0" / "evaluation" / "retrieval").counts
    assert codes == [0] and len(held) == 12
    assert (counts.evaluated, counts.failed + counts.skipped) == (9, 3)


def test_nothing_but_broken_pictures(tmp_path: Path) -> None:
    data = draw(tmp_path / "data", 3, broken=3)
    codes, page = do(study(data, *SMALL), tmp_path / "out")
    assert codes == [1] and "training failed" in page


def test_a_benchmark_whose_files_are_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [one for one in one_run.ABILITIES if one.benchmark == "retrieval"]
    missing = Ability("Two pictures, two captions", "winoground", {"group": "group score"})
    monkeypatch.setattr(one_run, "ABILITIES", (missing, *kept))
    config = study(draw(tmp_path / "data", 20), *SMALL)
    codes, _ = do(config, tmp_path / "out")
    done = json.loads((tmp_path / "out" / "clip_tiny-0" / "finished.json").read_text())
    assert codes == [0] and list(done["absent"]) == ["winoground"]
    assert str(tmp_path / "data") in done["absent"]["winoground"]


@pytest.mark.parametrize("made", [True, False], ids=["empty", "none"])
def test_a_folder_with_nothing_in_it_is_told_before_anything_runs(
    made: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if made:
        (tmp_path / "data").mkdir()
    assert diptych(["study", "clip_tiny", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 2
    assert str(tmp_path / "data") in capsys.readouterr().err and not (tmp_path / "out").exists()
