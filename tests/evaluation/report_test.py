"""The report of made-up runs: one file that needs nothing else, with every number, and nothing unescaped."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import PIL.Image
import pytest
from fabricated_run import CLASSES, ENVIRONMENT, fabricate_run

from diptych.cli import main
from diptych.core.errors import ConfigError, DataError, StorageError
from diptych.evaluation.report import write_report

VOID = {"meta", "img", "line", "circle", "polyline", "path", "br", "link", "input"}
LOADS = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}


class Page(HTMLParser):
    """What a browser would make of the page: elements, what it would load, and the text that is read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.events: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"
        self.text = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.loaded += [value or ""] if name in LOADS else []
            self.ids += [value or ""] if name == "id" else []
            self.labels += [value or ""] if name == "aria-label" else []
            self.events += [name] if name.startswith("on") else []
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self._text.append(data)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = fabricate_run(tmp_path_factory.mktemp("runs") / "clip_run")
    path = write_report([run])
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_it_needs_nothing_but_itself(html: str, page: Page) -> None:
    assert html.startswith("<!doctype html>")
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert all(address.startswith(("#", "data:")) for address in page.loaded)
    anchors = {address[1:] for address in page.loaded if address.startswith("#")}
    assert anchors and anchors <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    (css,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "@import" not in css and "url(" not in css and len(css) > 1000
    assert len(html) < 1_000_000


def test_every_number_with_its_interval_and_chance(page: Page) -> None:
    for k in (1, 5, 10):
        value = min(0.95, 0.08 * k**0.8)
        cells = f"{100 * value:.1f}\u202f% {100 * (value - 0.04):.1f} to {100 * (value + 0.04):.1f}\u202f%"
        assert " ".join(cells.split()) in page.text
        assert f"{k / 5:.1f} % 500" in page.text.replace("\u202f", " ")
        spoken = f"{100 * value:.1f} %, interval {100 * (value - 0.04):.1f} to {100 * (value + 0.04):.1f} %, chance "
        assert any(label.replace("\u202f", " ").startswith(spoken) for label in page.labels)
    assert "500 evaluated, 1 failed, 2 skipped" in page.text
    assert "score : cosine of encodings" in page.text


def test_the_headline_has_both_directions_and_no_expectations(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / "run")
    result = run / "evaluation" / "retrieval" / "result.json"
    plain = json.loads(result.read_text())
    plain["metrics"] = {n + e: m for n, m in plain["metrics"].items() for e in ("", "_expected")}
    result.write_text(json.dumps(plain))
    text = Page(write_report([run]).read_text(encoding="utf-8")).text
    table = text[text.index("Benchmark run Chance") : text.index("Training", text.index("Benchmark run Chance"))]
    assert all(f"{way} to {to} r{k}" in table for way, to in (("Image", "text"), ("Text", "image")) for k in (1, 5, 10))
    assert "expected" not in table
    assert "Image to text r10 expected" in text


def test_what_was_run_and_where(page: Page) -> None:
    text = page.text.replace("\u202f", " ")
    for fact in ("clip_tiny", "38,400", "1.23 M", "1 min 21 s", "A Processor @ 2.00GHz, 2 cores", "0123456789+"):
        assert fact in text, fact
    for name, version in ENVIRONMENT["packages"].items():  # type: ignore[attr-defined]
        assert f"{name} {version}" in text
    assert "weight_decay: 0.1" in text  # every resolved field
    assert "templates: - a picture of {}" in text  # the benchmark's settings


def test_the_funnel_of_the_data(page: Page) -> None:
    text = page.text.replace("\u202f", " ")
    assert "read 10,000 100.0 %" in text
    assert "lost: truncated image 12 0.12 %" in text
    assert "used 9,988 99.88 %" in text


def test_curves_are_drawn_from_the_logged_steps(html: str, page: Page) -> None:
    assert any(label.startswith("Loss by step: clip_run ends at ") for label in page.labels)
    assert html.count("<polyline") >= 4


def test_the_gallery_shows_the_pictures_themselves(page: Page) -> None:
    pictures = [address for address in page.loaded if address.startswith("data:image/jpeg;base64,")]
    assert len(set(pictures)) >= 8
    for address in pictures:
        with PIL.Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            assert picture.size == (64, 64)
    assert page.text.count("✓ right") == 4
    assert page.text.count("✗ wrong") == 3
    assert "the true answer came at rank 6" in page.text


def test_the_confusion_matrix(html: str, page: Page) -> None:
    (table,) = re.findall(r'<table class="confusion".*?</table>', html, re.DOTALL)
    rows = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)[1:]
    counts = [[int(n or 0) for n in re.findall(r"<td[^>]*>(\d*)</td>", row)] for row in rows]
    assert counts == [[20 if i == j else (i + 2 * j) % 4 for j in range(5)] for i in range(5)]
    assert all(name in page.text for name in CLASSES)


def test_what_users_wrote_is_text_and_nothing_else(html: str, page: Page) -> None:
    assert "a red circle <script>alert(1)</script>" in page.text  # a caption
    assert "<b>cross</b>" in page.text  # a class name
    assert "<script" not in html and "<b>cross" not in html
    assert not page.events


def test_attacks_from_every_place(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / 'a"><img src=x onerror=alert(1)>')
    attack = '"><script>alert(2)</script><img src="https://example.com/x.png" onerror="alert(3)">'
    (run / "config.yaml").write_text(json.dumps({"name": attack, attack: attack}))
    (run / "data.json").write_text(json.dumps({attack: {"read": 3, "bad": {attack: 1}}}))
    (run / "environment.json").write_text(json.dumps({"processor": attack, "packages": {attack: attack}}))
    result = run / "evaluation" / "retrieval" / "result.json"
    plain = json.loads(result.read_text())
    plain |= {"model": attack, "verbs": {attack: attack}, "settings": {attack: attack}}
    plain["metrics"][attack] = plain["metrics"]["image_to_text_r1"]
    plain["extras"]["gallery"][1] |= {"key": attack, "truth": attack, "top": [attack, {"text": attack, "key": attack}]}
    result.write_text(json.dumps(plain))
    html = write_report([run]).read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in page.tags and not page.events
    assert all(address.startswith(("#", "data:")) for address in page.loaded)
    assert page.text.count("<script>alert(2)</script>") >= 8


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path / name, name=name, seed=i) for i, name in enumerate(("clip", "siglip", "third"))]
    page = Page(write_report(runs, tmp_path / "all.html").read_text(encoding="utf-8"))
    text = page.text.replace("\u202f", " ")
    assert text.startswith("clip, siglip and third \u2013 diptych report")
    for i in range(3):
        assert f"{100 * (0.61 + 0.05 * i):.1f} %" in text
    assert "Where the runs differ: Field clip siglip third" in text
    assert "stages.0.optimizer.lr 0.001 0.002 0.003" in text
    assert "stages.0.optimizer.weight_decay" not in text  # they agree on that
    assert any("clip ends at" in label and "third ends at" in label for label in page.labels)


def test_ranks_and_sizes_are_no_percentages(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path / name, name=name, seed=i) for i, name in enumerate(("a", "b"))]
    for run in runs:
        result = run / "evaluation" / "retrieval" / "result.json"
        plain = json.loads(result.read_text())
        plain["metrics"]["median_rank"] = {"value": 29.5 if run is runs[0] else 64.5, "n": 500, "unit": "number"}
        plain["metrics"]["pool"] = {"value": 5000.0, "n": 5000, "unit": "number"}
        result.write_text(json.dumps(plain))
    html = write_report(runs, tmp_path / "both.html").read_text(encoding="utf-8")
    text = Page(html).text
    assert "Median rank a 29.5 \u2013 \u2013 500 b 64.5" in text
    assert "Pool a 5,000 " in text
    assert not re.search(r"best[^<]*>64.5", html)  # a higher rank is not better


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path / place / "clip") for place in ("old", "new")]
    text = Page(write_report(runs, tmp_path / "both.html").read_text(encoding="utf-8")).text
    assert text.startswith("old/clip and new/clip")
    with pytest.raises(DataError, match="the same run is named twice"):
        write_report([runs[0], runs[0]], tmp_path / "both.html")


def test_a_run_that_was_not_evaluated_yet(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / "run", evaluated=False)
    text = Page(write_report([run]).read_text(encoding="utf-8")).text
    assert "Nothing was evaluated yet" in text
    assert "Loss" in text


def test_an_evaluation_of_a_model_that_was_not_trained_here(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / "run")
    (tmp_path / "public").mkdir()
    shutil.copytree(run / "evaluation", tmp_path / "public" / "evaluation")
    text = Page(write_report([tmp_path / "public"]).read_text(encoding="utf-8")).text
    assert "public has no configuration: it was evaluated, not trained here" in text
    assert "torch 2.13.0" in text  # the environment of the evaluation


def test_pictures_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / "run")
    result = run / "evaluation" / "retrieval" / "result.json"
    result.write_text(result.read_text().replace("scenes?objects=3", "gone/photos.tar?objects=3"))
    page = Page(write_report([run]).read_text(encoding="utf-8"))
    assert "The pictures could not be read again" in page.text
    assert not any(address.startswith("data:image") for address in page.loaded)


def test_wrong_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == (
        f"diptych: {tmp_path / 'nowhere'} is not a folder: give the folder of a run, as `diptych train` prints it\n"
    )
    with pytest.raises(DataError, match=r"holds no config.yaml and no evaluation"):
        write_report([tmp_path])
    with pytest.raises(ConfigError, match="1 to 6 runs, not 0"):
        write_report([])
    runs = [fabricate_run(tmp_path / name) for name in ("a", "b")]
    with pytest.raises(ConfigError, match="needs a file to be written to: --out"):
        write_report(runs)
    (runs[0] / "evaluation" / "retrieval" / "result.json").write_text('{"benchmark": "retr')
    with pytest.raises(DataError, match=r"result.json is truncated or not JSON"):
        write_report(runs[:1])
    with pytest.raises(StorageError):
        write_report(runs[1:], tmp_path / "a" / "config.yaml" / "report.html")
    assert not (runs[0] / "report.html").exists()
