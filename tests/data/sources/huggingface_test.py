"""Hugging Face datasets: what is said without the extra, and with it a dataset from disk."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from diptych.core.errors import DataError, MissingExtra
from diptych.core.processor import BadSample
from diptych.data.open import open_source


def test_without_the_extra_one_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as caught:
        open_source("hf:org/name")
    assert str(caught.value) == "opening 'hf:org/name' needs datasets: pip install 'diptych[datasets]'"


def picture(value: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return pytest.importorskip("datasets", reason="the extra 'datasets' is not installed")


def saved(datasets: Any, folder: Path, captions: list[Any] | None = None) -> str:
    """Splits train (4) and test (2), with classes."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "caption": datasets.Value("string"),
            "alt": datasets.Value("string"),
        }
    )

    def part(begin: int, count: int) -> Any:
        numbers = range(begin, begin + count)
        rows = {
            "image": [{"bytes": picture(i), "path": None} for i in numbers],
            "label": [i % 2 for i in numbers],
            "caption": captions or [f"caption {i}" for i in numbers],
            "alt": [f"alt {i}" for i in numbers],
        }
        return datasets.Dataset.from_dict(rows, features=features)

    datasets.DatasetDict({"train": part(0, 4), "test": part(10, 2)}).save_to_disk(str(folder))
    return f"hf:{folder}"


def test_a_dataset_on_disk_by_split(datasets: Any, tmp_path: Path) -> None:
    reference = saved(datasets, tmp_path / "set")
    train, test = open_source(reference, "train"), open_source(reference, "test")
    assert (len(train), len(test)) == (4, 2) and list(test.keys()) == ["test-00000000", "test-00000001"]
    sample = test[1]
    assert sample.key == "test-00000001" and sample.texts == ("caption 11",)
    assert sample.image.encoded == picture(11)  # not decoded on the way
    assert sample.meta["class"] == "dog" and sample.meta["alt"] == "alt 11"
    assert open_source(f"{reference}?captions=alt", "train")[2].texts == ("alt 2",)
    assert len(open_source(reference)) == 4  # "all" is train


@pytest.mark.parametrize("asked", ["val", "validation"])
@pytest.mark.parametrize("named", ["val", "validation", "dev"])
def test_any_word_for_a_split_finds_it(datasets: Any, tmp_path: Path, asked: str, named: str) -> None:
    features = datasets.Features({"image": datasets.Image()})
    part = datasets.Dataset.from_dict({"image": [{"bytes": picture(1), "path": None}]}, features=features)
    datasets.DatasetDict({named: part}).save_to_disk(str(tmp_path / "set"))
    assert list(open_source(f"hf:{tmp_path / 'set'}", asked).keys()) == ["val-00000000"]


def test_fingerprints_differ_by_split_and_field_and_not_by_opening(datasets: Any, tmp_path: Path) -> None:
    reference = saved(datasets, tmp_path / "set")
    prints = [open_source(reference, split).fingerprint() for split in ("train", "train", "test")]
    assert prints[0] == prints[1] != prints[2]
    assert open_source(f"{reference}?captions=alt", "train").fingerprint() != prints[0]


def test_mistakes_are_one_sentence(datasets: Any, tmp_path: Path) -> None:
    reference = saved(datasets, tmp_path / "set")
    with pytest.raises(DataError, match=r"cannot open split 'val' of the dataset .*: its splits are train, test"):
        open_source(reference, "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot open split 'train' of the dataset"):
        open_source(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(DataError, match="cannot open split 'train' of the dataset nobody/nothing"):
        open_source("hf:nobody/nothing")
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "texts"))
    with pytest.raises(DataError, match="has no picture column; found text"):
        open_source(f"hf:{tmp_path / 'texts'}")


def test_an_empty_cell_is_a_bad_sample(datasets: Any, tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    rows = {"image": [None], "caption": ["a"]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(BadSample, match="train-00000000: no image"):
        open_source(f"hf:{tmp_path / 'set'}")[0]
