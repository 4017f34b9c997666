"""Tables beside their pictures: every form people have them in, and what is said of a broken one."""

import json
from pathlib import Path

import pytest

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.data.open import open_source
from diptych.data.sources.table import TableSource


def table(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    for picture in ("a.jpg", "b.jpg"):
        (folder / picture).write_bytes(picture.encode())
    return path


ROWS = {
    "captions.csv": 'image,caption,score\na.jpg,"one, two",3\nb.jpg,three,4\n',
    "metadata.csv": "file_name,text,score\r\na.jpg,\"one, two\",3\r\nb.jpg,three,4\r\n",
    "captions.tsv": "filename\tcaption\tscore\na.jpg\tone, two\t3\nb.jpg\tthree\t4\n",
    "metadata.jsonl": '{"path": "a.jpg", "captions": ["one, two"], "score": "3"}\n\n'
    '{"path": "b.jpg", "sentences": [{"raw": "three"}], "score": "4"}\n',
    "captions.jsonl": '{"image": "a.jpg", "caption": "one, two", "score": "3"}\n'
    '{"image": "b.jpg", "text": "three", "score": "4"}',
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_pictures_captions_and_other_columns(tmp_path: Path, name: str, mark: bytes) -> None:
    table(tmp_path, name, mark + ROWS[name].encode())  # spreadsheets begin their files with a byte order mark
    source = open_source(str(tmp_path))
    assert source.name == str(tmp_path / name) and list(source.keys()) == ["a.jpg", "b.jpg"]
    first, second = source[0], source[1]
    assert (first.texts, second.texts) == (("one, two",), ("three",))
    assert first.image.encoded == b"a.jpg" and second.image.encoded == b"b.jpg"
    assert (first.meta["score"], second.meta["score"]) == ("3", "4") and "caption" not in first.meta


def test_rows_of_one_picture_are_its_captions(tmp_path: Path) -> None:
    source = TableSource(table(tmp_path, "c.csv", "image,caption\na.jpg,one\nb.jpg,two\na.jpg,three\n"))
    assert list(source.keys()) == ["a.jpg", "b.jpg"]
    assert source[0].texts == ("one", "three") and source[1].texts == ("two",)


def test_flickrs_token_file(tmp_path: Path) -> None:
    path = table(tmp_path, "captions.tsv", 'a.jpg#0\tA "dog" .\na.jpg#1\tTwo dogs\nb.jpg#0\tA cat\tand more\n')
    source = TableSource(path)
    assert list(source.keys()) == ["a.jpg", "b.jpg"]
    assert source[0].texts == ('A "dog" .', "Two dogs") and source[1].texts == ("A cat\tand more",)


def test_a_named_field_and_pictures_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    table(tmp_path / "pictures", "x", "")
    path = tmp_path / "c.csv"
    path.write_text("image,caption,alt\na.jpg,one,two\n")
    source = TableSource(path, tmp_path / "pictures", ("alt",))
    assert source[0].texts == ("two",) and source[0].meta == {"caption": "one"}
    assert source[0].image.encoded == b"a.jpg"


def test_a_missing_picture_is_a_bad_sample_and_a_missing_caption_none(tmp_path: Path) -> None:
    source = TableSource(table(tmp_path, "c.csv", "image,caption\nz.jpg,one\na.jpg,\n"))
    with pytest.raises(BadSample, match=r"z\.jpg: missing image") as caught:
        source[0]
    assert (caught.value.key, caught.value.reason) == ("z.jpg", "missing image")
    assert source[1].texts == ("",)


def test_rows_without_a_picture_are_counted_and_left_out(tmp_path: Path) -> None:
    source = TableSource(table(tmp_path, "c.csv", "image,caption\na.jpg,one\n,two\nb.jpg,three\n"))
    assert list(source.keys()) == ["a.jpg", "b.jpg"] and source[0].texts == ("one",)
    assert source.problems == {"no image": ["c.csv, record 2"]}


@pytest.mark.parametrize("value", [[1, 2], "text", 3, None, True])
def test_a_line_that_is_no_object_is_one_sentence_with_its_number(tmp_path: Path, value: object) -> None:
    lines = f'{{"image": "a.jpg"}}\n\n{json.dumps(value)}\n'
    with pytest.raises(DataError, match=r"c\.jsonl, line 3 is no object of named fields but ") as caught:
        TableSource(table(tmp_path, "c.jsonl", lines))
    assert json.dumps(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("c.jsonl", '{"image": "a.jpg"}\n{"image": ', r"c\.jsonl, line 2 is not JSON"),
        (
            "c.csv",
            "name,caption\nx,one\n",
            "no column names the picture; expected one of image, .* found name, caption",
        ),
        ("c.csv", b"image,caption\na.jpg,\xff\xfe\n", "is not UTF-8 text"),
        ("c.csv", 'image,caption\na.jpg,"' + "x" * 200_000 + '"\n', "is no table: field larger than field limit"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        TableSource(table(tmp_path, name, content))


@pytest.mark.parametrize("content", ["", "image,caption\n"])
def test_a_table_without_rows_is_one_sentence(tmp_path: Path, content: str) -> None:
    table(tmp_path, "captions.csv", content)
    with pytest.raises(DataError, match="holds no pictures"):
        open_source(str(tmp_path / "captions.csv"))
