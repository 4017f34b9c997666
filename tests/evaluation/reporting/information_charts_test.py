"""Charts of information: what they hold, their limits, several runs in one."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from diptych.core.records.results import Counts, Metric, Result, write_result
from diptych.evaluation.report import write_report
from diptych.evaluation.reporting.chart import Series, line_chart


def measured(shift: float) -> dict[str, Any]:
    return {
        "batch": 32,
        "bound": [{"batch": b, "bits": math.log2(b) - shift, "cap": math.log2(b), "scale": 9.0} for b in (8, 32)],
        "text": [{"beta": b, "rate": 2.0 * b, "distortion": 5 - b + shift} for b in (1.0, 2.0, 3.0)],
        "error": [{"beta": b, "rate": 2.0 * b, "distortion": 1 / b} for b in (1.0, 2.0)],
        "masking": [{"share": s, "rate": 9 - 4 * s, "bits": 3 - 2 * s} for s in (0.0, 0.5)],
    }


def a_run(folder: Path, shift: float) -> Path:
    metrics = {"identified_of_8": Metric(0.5, 0.4, 0.6, 1 / 8, 40), "cap_bits_8": Metric(3.0, n=40, unit="number")}
    result = Result(
        "information", folder.name, "scenes", metrics, Counts(40), {"encode_image": "native"}, split="test",
        extras={"rate_distortion": measured(shift)},
    )  # fmt: skip
    (folder / "evaluation" / "information").mkdir(parents=True)
    write_result(result, folder / "evaluation" / "information")
    (folder / "config.yaml").write_text("name: made\n")
    return folder


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    runs = [a_run(folder / "first", 0.5), a_run(folder / "second", 1.0)]
    return write_report(runs, folder / "report.html").read_text(encoding="utf-8")


def test_every_chart_says_what_it_holds(html: str) -> None:
    labels = [label for label in re.findall(r'aria-label="([^"]*)"', html) if " by " in label]
    assert labels == [
        "Bits shared with the text, and their cap by log2 of the batch: first ends at 4.5; second ends at 4.",
        "Bits left to know of the text by bits a picture: first ends at 2.5; second ends at 3.",
        "Squared error, share of the variance by bits a picture: first ends at 0.5; second ends at 0.5.",
        "Bits a picture at a fixed step by share of the picture that is hidden: first ends at 7; second ends at 7.",
        "Bits shared with the text by share of the picture that is hidden: first ends at 2; second ends at 2.",
    ]


def test_limits_are_drawn_where_there_is_one(html: str) -> None:
    charts = re.findall(r'<svg class="chart".*?</svg>', html, re.S)
    assert ["line limit" in chart for chart in charts] == [True, True, False, False, False]
    assert all(chart.count("line color-0") == chart.count("line color-1") == 1 for chart in charts)


def test_a_limit_keeps_its_place_when_it_is_thinned() -> None:
    x = tuple(float(i) for i in range(1000))
    chart = line_chart("Bits", [Series("the cap", 0, x, x, limit=True), Series("run", 0, (1.0, 2.0), (1.0, 2.0))])
    assert chart is not None
    assert chart.description == "Bits by step: run ends at 2."
    assert str(chart.svg).count('class="line limit"') == 1
