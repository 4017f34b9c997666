"""Rows of pictures: what a result holds, and what is no picture."""

from diptych.core.records.results import Counts, Result
from diptych.evaluation.reporting.picture_rows import MOST, Picture, picture_rows

PNG = "data:image/png;base64,AAAA"


def result(rows: list[dict[str, object]]) -> Result:
    return Result("masked_patches", "model", "data", {}, Counts(), {}, extras={"pictures": rows})


def test_rows_as_they_are_and_never_too_many() -> None:
    images = [{"title": "picture", "png": PNG}, {"title": "<b>", "png": PNG}]
    (row,) = picture_rows(result([{"key": "k0", "caption": "a cat", "images": images}]))
    assert row.key == "k0" and row.pictures == [Picture("picture", PNG), Picture("<b>", PNG)]
    assert len(picture_rows(result([{"key": "k", "caption": "", "images": images}] * 50))) == MOST
    assert picture_rows(Result("retrieval", "model", "data", {}, Counts(), {})) == []


def test_an_address_that_is_no_picture_is_left_out() -> None:
    images = [{"title": "a", "png": "https://example.org/a.png"}, {"title": "b", "png": PNG}]
    (row,) = picture_rows(result([{"key": "k0", "caption": "", "images": images}, {"key": "k1", "images": images[:1]}]))
    assert row.pictures == [Picture("b", PNG)]
