"""Reliability diagrams: how often models are right, by how sure they are; runs side by side.

A result's `extras["calibration"]` is
    {"text" or "image": [{"count": of questions, "confidence": their mean, "accuracy": their share that is right}]}
"""

from __future__ import annotations

from collections.abc import Sequence

from diptych.evaluation.reporting.chart import Chart, Series, line_chart
from diptych.evaluation.reporting.tables import RunResult

_TITLES = {"text": "Right, by how sure it is: texts", "image": "Right, by how sure it is: pictures"}
_EXACT = Series("calibrated", 0, (0.0, 1.0), (0.0, 1.0), limit=True)


def calibration_charts(results: Sequence[RunResult]) -> list[Chart]:
    """A diagram for each way of asking that any of the results has."""
    charts = []
    for way, title in _TITLES.items():
        lines = [line for one in results if (line := _line(one, way)) is not None]
        if lines and (chart := line_chart(title, [*lines, _EXACT], across="confidence", include_zero=True)):
            charts.append(chart)
    return charts


def _line(one: RunResult, way: str) -> Series | None:
    bins = (one.result.extras.get("calibration") or {}).get(way)
    if not bins:
        return None
    points = sorted((float(row["confidence"]), float(row["accuracy"])) for row in bins)
    return Series(one.run.label, one.run.color, tuple(x for x, _ in points), tuple(y for _, y in points))
