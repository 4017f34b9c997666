"""The study that the demo runs: all of its options are fields of their recipes, and it fits in a few steps."""

import json
from pathlib import Path

import pytest

from diptych.commands.demo import main as demo
from diptych.core.errors import MissingExtra
from diptych.study.config import FAMILIES, StudyRun
from diptych.study.one_run import resolved
from diptych.study.small_study import SAMPLES, small_study


@pytest.mark.parametrize("run", small_study().runs(), ids=lambda run: run.name)
def test_every_option_is_a_field_and_all_see_the_same_pictures(run: StudyRun, tmp_path: Path) -> None:
    made = resolved(run, tmp_path)
    assert made.budget.steps * made.batch_size == SAMPLES and made.image.size == 32
    assert made.data == run.data and made.threads == 1


def test_there_is_one_of_each_family() -> None:
    assert set(small_study(2).recipes) == set(FAMILIES) and len(small_study(2).runs()) == 10


@pytest.mark.slow
def test_the_demo_trains_all_five_and_says_where_the_page_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert demo(["--samples", "64", "--limit", "4", "--out", str(out), "--processes", "2"]) == 0
    record = json.loads((out / "study.json").read_text())
    assert record["missing"] == {} and set(record["costs"]) == set(FAMILIES)
    assert str(out / "study.html") in capsys.readouterr().out


def test_an_install_without_all_it_needs_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.commands.demo.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs transformers: pip install 'diptych\[all\]'"):
        demo(["--out", str(tmp_path / "demo")])
    assert list(tmp_path.iterdir()) == []
