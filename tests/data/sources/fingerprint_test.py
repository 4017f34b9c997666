"""Fingerprints: whatever changes the data changes them, and a copy is the same data."""

import io
import json
import os
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.core.source import Source
from diptych.data.derived.mixture import Mixture
from diptych.data.open import open_source
from diptych.data.scenes.source import Scenes
from diptych.data.sources._content import digest_of, file_digest


def picture(folder: Path, name: str, value: int, kind: str = "BMP") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path, kind)


def write_table(folder: Path, ending: str = "csv") -> None:
    for index in range(3):
        picture(folder, f"{index}.bmp", index)
    rows = [{"image": f"{index}.bmp", "caption": f"number {index}"} for index in range(3)]
    text = "image,caption\n" + "".join(f"{row['image']},{row['caption']}\n" for row in rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"captions.{ending}").write_text(lines if ending == "jsonl" else text)


def write_classes(folder: Path) -> None:
    for index in range(3):
        picture(folder, f"class{index}/a.bmp", index)


def write_parquet(folder: Path, order: tuple[int, ...] = (0, 1, 2)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [bytes([i]) * 20 for i in order], "caption": [f"number {i}" for i in order]})
    pq.write_table(table, folder / "a.parquet", compression="NONE", use_dictionary=False)


def write_idx(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    count = 300
    pixels = np.arange(count * 4, dtype=np.uint32).astype(np.uint8).tobytes()
    (folder / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 2, 2) + pixels)
    (folder / "train-labels-idx1-ubyte").write_bytes(
        struct.pack(">2I", 0x801, count) + bytes(i % 3 for i in range(count))
    )
    (folder / "classes.json").write_text('["a", "b", "c"]')


def write_raw_tar(folder: Path, value: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "a.tar", "w") as tar:
        file = io.BytesIO()
        np.save(file, np.full((4, 4, 3), value, np.uint8))
        info = tarfile.TarInfo("0.npy")
        info.size = len(file.getvalue())
        tar.addfile(info, io.BytesIO(file.getvalue()))


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


WRITERS: dict[str, Callable[[Path], object]] = {
    "table": write_table, "classes": write_classes, "parquet": write_parquet, "idx": write_idx, "tar": write_raw_tar,
}  # fmt: skip


def swap_rows(folder: Path) -> None:
    lines = (folder / "captions.csv").read_text().splitlines(keepends=True)
    (folder / "captions.csv").write_text("".join([lines[0], lines[2], lines[1], lines[3]]))


def same_length_caption(folder: Path) -> None:
    table = folder / "captions.csv"
    table.write_text(table.read_text().replace("number 1", "number 9"))


CHANGES: list[tuple[str, str, Callable[[Path], object]]] = [
    ("table", "a caption of the same length", same_length_caption),
    ("table", "rows in another order", swap_rows),
    ("table", "a picture of the same size", lambda folder: picture(folder, "1.bmp", 77)),
    ("table", "a picture that is gone", lambda folder: (folder / "2.bmp").unlink()),
    ("classes", "a picture of the same size", lambda folder: picture(folder, "class1/a.bmp", 77)),
    ("classes", "a larger picture", lambda folder: picture(folder, "class1/a.bmp", 1, "PNG")),
    ("classes", "a class of another name", lambda folder: (folder / "class1").rename(folder / "class11")),
    ("classes", "one more picture", lambda folder: picture(folder, "class1/b.bmp", 1)),
    ("parquet", "rows in another order", lambda folder: write_parquet(folder, (0, 2, 1))),
    ("parquet", "another name", lambda folder: (folder / "a.parquet").rename(folder / "b.parquet")),
    ("idx", "a late label", lambda folder: (folder / "train-labels-idx1-ubyte").write_bytes(
        (folder / "train-labels-idx1-ubyte").read_bytes()[:-1] + b"\0")),
    ("idx", "a late pixel", lambda folder: flip_byte(folder / "train-images-idx3-ubyte", -3)),
    ("idx", "class names", lambda folder: (folder / "classes.json").write_text('["a", "c", "b"]')),
    ("tar", "raw pixels of the same size", lambda folder: write_raw_tar(folder, 9)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "what", "change"), CHANGES, ids=[f"{kind}: {what}" for kind, what, _ in CHANGES])
def test_what_changes_the_data_changes_the_fingerprint(
    tmp_path: Path, kind: str, what: str, change: Callable[[Path], object]
) -> None:
    WRITERS[kind](tmp_path / "data")
    before = open_source(str(tmp_path / "data")).fingerprint()
    assert open_source(str(tmp_path / "data")).fingerprint() == before
    change(tmp_path / "data")
    assert open_source(str(tmp_path / "data")).fingerprint() != before


@pytest.mark.parametrize("kind", WRITERS)
def test_a_copy_with_other_times_is_the_same_data(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy" / "data")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
    assert open_source(str(tmp_path / "copy/data")).fingerprint() == open_source(str(tmp_path / "data")).fingerprint()


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_the_captions_field_is_part_of_the_data(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path)
    assert open_source(f"{tmp_path}?captions=alt").fingerprint() != open_source(str(tmp_path)).fingerprint()


def test_the_captions_field_of_a_table_is_part_of_the_data(tmp_path: Path) -> None:
    picture(tmp_path, "a.bmp", 1)
    (tmp_path / "captions.jsonl").write_text('{"image": "a.bmp", "caption": "a", "alt": "a"}\n')
    assert open_source(f"{tmp_path}?captions=alt").fingerprint() != open_source(str(tmp_path)).fingerprint()


def test_every_setting_of_a_mixture_changes_its_fingerprint() -> None:
    a, b = Scenes("train", 10), Scenes("val", 10)

    def mixed(sources: list[Source], weights: list[float], length: int = 8, seed: int = 0) -> str:
        return Mixture(sources, weights, length, seed).fingerprint()

    first = mixed([a, b], [1, 1])
    assert mixed([a, b], [2, 2]) == first  # shares count, not their scale
    others = [
        mixed([a, b], [1, 1.001]),  # rounds to the same percentages
        mixed([a, b], [1, 3]),
        mixed([b, a], [1, 1]),
        mixed([a, b], [1, 1], length=9),
        mixed([a, b], [1, 1], seed=1),
        mixed([a, Scenes("val", 11)], [1, 1]),
    ]
    assert len({first, *others}) == 7


def test_pieces_lie_all_over_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    size = 16 * 4096 * 10
    path.write_bytes(bytes(size))
    before = file_digest(path, 16)
    for at in (0, (size - 4096) * 7 // 15, size - 1):
        flip_byte(path, at)
        assert file_digest(path, 16) != before
        flip_byte(path, at)
    assert file_digest(path, 16) == before
    path.write_bytes(bytes(size + 1))
    assert file_digest(path, 16) != before


def test_where_a_part_ends_counts() -> None:
    assert len({digest_of(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""])}) == 4
