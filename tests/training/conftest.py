"""A run on points that was killed half way, for the tests of what can be done with it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from training_toys import HALF_WAY

from diptych.core.records.run_folder import RunFolder
from diptych.training.fit import fit


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Six steps, with the checkpoints of the third and the last."""
    return fit(replace(HALF_WAY, keep_last=2), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A run as it stands after it was killed behind its third step."""
    place = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, place.path)
    shutil.rmtree(place.artifact("train"))
    shutil.rmtree(place.checkpoints / "train-00000006")
    assert [folder.name for folder in place.saved()] == ["train-00000003"]
    return place
