"""IDX files: pixels, labels and names as they were written; every way to be broken is one sentence."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from diptych.core.errors import DataError
from diptych.data.sources.idx import IdxSource, pictures_in, read_idx


def idx(values: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write(folder: Path, prefix: str, pixels: np.ndarray, labels: np.ndarray, packed: bool) -> Path:
    for kind, values in (("images-idx3", pixels), ("labels-idx1", labels)):
        data = idx(values)
        name = f"{prefix}-{kind}-ubyte"
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return folder / (f"{prefix}-images-idx3-ubyte" + (".gz" if packed else ""))


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 5, 3), np.uint8), rng.integers(0, 4, count).astype(np.uint8)


@pytest.mark.parametrize("packed", [True, False])
def test_every_picture_and_label_comes_back(tmp_path: Path, packed: bool) -> None:
    pixels, labels = drawn(20)
    labels[7] = 3
    (tmp_path / "classes.json").write_text('["shirt", "shoe", "bag", "coat"]')
    source = IdxSource([write(tmp_path, "train", pixels, labels, packed)])
    assert len(source) == 20 and source.keys()[7] == "train-00007"
    for index in range(20):
        sample = source[index]
        assert sample.image.pixels_HWC is not None
        np.testing.assert_array_equal(sample.image.pixels_HWC, np.stack([pixels[index]] * 3, -1))
        assert sample.meta["class"] == ["shirt", "shoe", "bag", "coat"][labels[index]]
        assert sample.key == source.keys()[index]


def test_several_splits_follow_one_another(tmp_path: Path) -> None:
    first, second = drawn(3, 1), drawn(2, 2)
    paths = [write(tmp_path, "train", *first, True), write(tmp_path, "t10k", *second, True)]
    source = IdxSource(paths)
    assert list(source.keys()) == ["train-00000", "train-00001", "train-00002", "t10k-00000", "t10k-00001"]
    pixels = source[4].image.pixels_HWC
    assert pixels is not None
    np.testing.assert_array_equal(pixels[:, :, 1], second[0][1])
    assert source[4].meta["class"] == str(second[1][1])


def test_a_file_and_its_packed_twin_count_once(tmp_path: Path) -> None:
    write(tmp_path, "train", *drawn(3), True)
    write(tmp_path, "train", *drawn(3), False)
    write(tmp_path, "t10k", *drawn(2), True)
    assert [path.name.removesuffix(".gz") for path in pictures_in(tmp_path)] == [
        "t10k-images-idx3-ubyte",
        "train-images-idx3-ubyte",
    ]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not an IDX file of unsigned bytes"),
        (b"\0\0\x0d\x01" + bytes(8), "is not an IDX file of unsigned bytes"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"announces \(2, 3\) values but holds 5"),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", r"announces \(2, 3\) values but holds 7"),
        (idx(np.zeros((2, 3), np.uint8))[:9], "breaks off in its header"),
    ],
)
def test_what_is_no_idx_file(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        read_idx(tmp_path / "a")


def test_damaged_gzip_and_missing_files(tmp_path: Path) -> None:
    whole = gzip.compress(idx(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    for data in (whole[:-6], b"plain bytes"):
        (tmp_path / "a.gz").write_bytes(data)
        with pytest.raises(DataError, match=r"a\.gz is truncated or not gzip"):
            read_idx(tmp_path / "a.gz")
    with pytest.raises(DataError, match="no file at"):
        read_idx(tmp_path / "none")
    path = write(tmp_path, "train", *drawn(3), False)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no file at .*train-labels-idx1-ubyte"):
        IdxSource([path])


def test_other_counts_of_pictures_and_labels(tmp_path: Path) -> None:
    pixels, labels = drawn(4)
    with pytest.raises(DataError, match="has 4 pictures but 3 labels"):
        IdxSource([write(tmp_path, "train", pixels, labels[:3], True)])


def test_splits_of_different_sizes_are_refused(tmp_path: Path) -> None:
    pixels, labels = drawn(4)
    paths = [write(tmp_path, "train", pixels, labels, True), write(tmp_path, "t10k", pixels[:, :4], labels, True)]
    with pytest.raises(DataError, match="pictures of 5x3 and of 4x3"):
        IdxSource(paths)


def test_labels_in_place_of_pictures_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "train", np.zeros(4, np.uint8), np.zeros(4, np.uint8), False)
    with pytest.raises(DataError, match="have 1 and 1 axes, not 3 and 1"):
        IdxSource([path])


@pytest.mark.parametrize("content", ["not json", '{"a": 1}', "[1, 2"])
def test_class_names_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(DataError, match=r"classes\.json is no list of class names"):
        IdxSource([write(tmp_path, "train", *drawn(4), True)])
