"""Parquet: rows over files and row groups, pictures as bytes, structs or paths, keys, and damage."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.data.open import open_source
from diptych.data.sources.parquet import ParquetSource


def write(path: Path, columns: dict[str, list[Any]], group: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def columns(start: int, count: int) -> dict[str, list[Any]]:
    numbers = range(start, start + count)
    return {
        "image": [f"picture {i}".encode() for i in numbers],
        "caption": [f"caption {i}" for i in numbers],
        "width": list(numbers),
    }


def test_rows_of_all_files_and_groups_by_position(tmp_path: Path) -> None:
    write(tmp_path / "part-0.parquet", columns(0, 10))
    write(tmp_path / "part-1.parquet", columns(10, 7))
    source = open_source(str(tmp_path))
    assert len(source) == 17
    for index in reversed(range(17)):
        sample = source[index]
        assert sample.image.encoded == f"picture {index}".encode() and sample.texts == (f"caption {index}",)
        assert sample.meta == {"width": index} and sample.key == source.keys()[index]
    assert source.keys()[9:11] == ["part-0-00000009", "part-1-00000000"]


@pytest.mark.parametrize("column", ["key", "id", "uid"])
def test_a_column_of_keys(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "a.parquet", columns(0, 4) | {column: ["w", "x", "y", "z"]})
    assert list(ParquetSource([path]).keys()) == ["w", "x", "y", "z"] and ParquetSource([path])[2].key == "y"


def test_pictures_as_structs_and_paths(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"from the file")
    cells = [{"bytes": b"in the cell", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    source = ParquetSource([write(tmp_path / "a.parquet", {"image": cells, "text": ["a", "b"]})])
    assert [source[i].image.encoded for i in range(2)] == [b"in the cell", b"from the file"]
    source = ParquetSource([write(tmp_path / "b.parquet", {"image_path": ["b.jpg", "none.jpg"], "text": ["a", "b"]})])
    assert source[0].image.encoded == b"from the file"
    with pytest.raises(BadSample, match="missing image"):
        source[1]


def test_an_empty_cell_is_a_bad_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": [b"x", None], "caption": ["a", None]})
    source = ParquetSource([path])
    assert source[0].texts == ("a",)
    with pytest.raises(BadSample) as caught:
        source[1]
    assert (caught.value.key, caught.value.reason) == ("a-00000001", "no image")


def test_captions_as_lists_and_in_a_named_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"jpg": [b"x"], "sentences": [["one", "two"]], "alt": ["three"]})
    assert ParquetSource([path])[0].texts == ("one", "two")
    assert ParquetSource([path], ("alt",))[0].texts == ("three",)


def test_only_a_few_row_groups_are_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", columns(0, 40), group=2)
    source = ParquetSource([path])
    opened: list[int] = []
    read = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int) -> Any:
        opened.append(group)
        return read(self, group)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    for index in (0, 1, 0, 39, 1):
        source[index]
    assert opened == [0, 19]
    for index in range(40):
        source[index]
    opened.clear()
    source[38], source[0]
    assert opened == [0]  # the last ones are still there, the first was let go


def test_threads_read_the_same_rows(tmp_path: Path) -> None:
    source = ParquetSource([write(tmp_path / "a.parquet", columns(0, 60), group=2)])
    order = [i * 7 % 60 for i in range(60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: source[index].texts[0], order))
    assert found == [f"caption {index}" for index in order]


@pytest.mark.parametrize("cut", [0, 3, 40, -1])
def test_a_file_that_is_truncated_or_no_parquet_is_one_sentence(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.parquet", columns(0, 4))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"a\.parquet is truncated or no parquet file"):
        open_source(str(path))


def test_a_file_whose_pages_are_damaged_says_so_when_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": [bytes(range(256)) * 40] * 4, "caption": list("abcd")})
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(bytes(data))
    with pytest.raises(BadSample) as caught:
        open_source(str(path))[0]
    assert (caught.value.key, caught.value.reason) == ("a-00000000", "unreadable row")


def test_files_without_pictures_or_of_other_columns_are_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"url": ["x"], "caption": ["a"]})
    with pytest.raises(DataError, match=r"no column holds a picture; expected one of image, .*, found url, caption"):
        open_source(str(path))
    write(tmp_path / "two" / "a.parquet", columns(0, 2))
    write(tmp_path / "two" / "b.parquet", {"jpg": [b"x"], "caption": ["a"]})
    with pytest.raises(DataError, match=r"b\.parquet has no column 'image', which a\.parquet has"):
        open_source(str(tmp_path / "two"))


def test_a_file_without_rows_is_one_sentence(tmp_path: Path) -> None:
    empty = pa.table({"image": pa.array([], pa.binary()), "caption": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds no pictures"):
        open_source(str(tmp_path))
