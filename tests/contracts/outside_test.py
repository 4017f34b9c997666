"""A model and a recipe from a package that diptych knows nothing of: trained, evaluated, contract-tested."""

import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from contract import CHECKS, cases_of

from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.records.results import read_result


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package in a temporary folder, where a user would stand."""
    shutil.copytree(Path(__file__).parent / "outside_package", tmp_path / "outside_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("outside_package")]:
        del sys.modules[name]


def test_it_trains_evaluates_and_loads(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "outside_package.runs:small", "--run", "run", "--threads", "1"]) == 0
    assert (
        main(["eval", "run", "--benchmarks", "retrieval", "--data", "scenes?objects=1&size=32", "--limit", "200"]) == 0
    )
    result = read_result(package / "run" / "evaluation" / "retrieval")
    found = result.metrics["text_to_image_r10"]
    # Chance is .05; mean colours and a bag of words tell most scenes of one object apart.
    assert found.chance == pytest.approx(0.05)
    assert found.low is not None and found.low > 0.15
    assert result.verbs == {"score": "cosine of encodings"}
    assert load(package / "run").name == "mean_colour"


def test_it_meets_the_contract(package: Path) -> None:
    (case,) = cases_of(import_module("outside_package.mean_colour"))
    for check in CHECKS:
        check(case)


def test_a_wrong_name_in_it_names_the_nearest(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "outside_package.runs:smal"]) == 2
    assert "did you mean 'small'" in capsys.readouterr().err
