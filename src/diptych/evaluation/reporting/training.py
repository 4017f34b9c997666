"""The curves of training: one chart a quantity, every run on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diptych.evaluation.reporting.chart import Chart, Series, line_chart
from diptych.evaluation.reporting.format import title
from diptych.evaluation.reporting.read import RunRecord

Line = dict[str, Any]


@dataclass(frozen=True)
class StageCurves:
    """The charts of the stages of one name."""

    stage: str
    charts: list[Chart]


def training_curves(runs: Sequence[RunRecord]) -> list[StageCurves]:
    """Charts for each stage, in the order in which stages were logged."""
    stages = dict.fromkeys(str(line.get("stage", "")) for run in runs for line in run.lines)
    curves = [StageCurves(stage, _stage_charts(runs, stage)) for stage in stages]
    return [one for one in curves if one.charts]


def _stage_charts(runs: Sequence[RunRecord], stage: str) -> list[Chart]:
    lines = {run.label: [line for line in run.lines if line.get("stage", "") == stage] for run in runs}
    charts = [line_chart("Loss", _series(runs, lines, _number("loss")), smooth=True)]
    charts += [
        line_chart(f"Loss: {title(part)}", _series(runs, lines, _inner("parts", part)), smooth=True)
        for part in _names(lines, "parts", more_than=1)
    ]
    charts += [
        line_chart(f"Held out: {title(name)}", _series(runs, lines, _inner("evaluation", name)))
        for name in _names(lines, "evaluation")
    ]
    charts += [
        line_chart(heading, _series(runs, lines, _number(name)), include_zero=True, smooth=name in NOISY)
        for name, heading in QUANTITIES.items()
    ]
    return [chart for chart in charts if chart is not None]


QUANTITIES = {
    "lr": "Learning rate",
    "images_per_second": "Images per second",
    "grad_norm": "Gradient norm",
    "data_wait": "Share of time waiting for data",
}
NOISY = {"images_per_second", "grad_norm", "data_wait"}


def _series(
    runs: Sequence[RunRecord], lines: dict[str, list[Line]], read: Callable[[Line], float | None]
) -> list[Series]:
    series = []
    for run in runs:
        points = [(float(line["step"]), value) for line in lines[run.label] if (value := read(line)) is not None]
        series.append(Series(run.label, run.color, tuple(x for x, _ in points), tuple(y for _, y in points)))
    return series


def _number(name: str) -> Callable[[Line], float | None]:
    def read(line: Line) -> float | None:
        value = line.get(name)
        return float(value) if isinstance(value, int | float) else None

    return read


def _inner(group: str, name: str) -> Callable[[Line], float | None]:
    return lambda line: _number(name)(line.get(group) or {})


def _names(lines: dict[str, list[Line]], group: str, more_than: int = 0) -> list[str]:
    """The names that a group of values has in any line, where a run has more than so many."""
    found: dict[str, None] = {}
    for of_run in lines.values():
        names = dict.fromkeys(name for line in of_run for name in line.get(group) or {})
        if len(names) > more_than:
            found |= names
    return list(found)
