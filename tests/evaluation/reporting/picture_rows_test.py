"""Rows of pictures: what a result holds, and what is no picture."""

from pathlib import Path

from diptych.core.records.results import Counts, Metric, Result, write_result
from diptych.evaluation.report import write_report
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


def test_the_report_shows_the_rows_with_their_titles(tmp_path: Path) -> None:
    images = [{"title": "hidden", "png": PNG}, {"title": "with its own caption: <script>", "png": PNG}]
    one = result([{"key": "k0", "caption": "", "images": images}])
    one.metrics["own_caption_closer"] = Metric(0.7, 0.6, 0.8, 0.5, 100)
    folder = tmp_path / "run" / "evaluation" / "masked_patches"
    folder.mkdir(parents=True)
    write_result(one, folder)
    page = write_report([tmp_path / "run"], tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count(f'<img src="{PNG}"') == 2 and "<span>hidden</span>" in page
    assert "with its own caption: &lt;script&gt;" in page and "<script>" not in page
    assert "Own caption closer" in page and "70.0" in page
