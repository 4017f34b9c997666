"""Risk-coverage curves: how often answers are wrong when only the surest are given; runs side by side.

A result's `extras["risk_coverage"]` is {"coverage": [...], "risk": [...], "best": [the risk of the best order]}.
"""

from __future__ import annotations

from collections.abc import Sequence

from diptych.evaluation.reporting.chart import Chart, Series, line_chart
from diptych.evaluation.reporting.tables import RunResult


def risk_coverage_charts(results: Sequence[RunResult]) -> list[Chart]:
    """One chart with a line a run; below it what the best order of a lone run's answers would have."""
    found = [(one, plain) for one in results if (plain := one.result.extras.get("risk_coverage"))]
    lines = [
        Series(one.run.label, one.run.color, tuple(plain["coverage"]), tuple(plain["risk"])) for one, plain in found
    ]
    if len(found) == 1:
        (_, plain) = found[0]
        lines.append(Series("the best order", 0, tuple(plain["coverage"]), tuple(plain["best"]), limit=True))
    chart = line_chart("Wrong, by how much is answered", lines, across="coverage", include_zero=True) if lines else None
    return [chart] if chart else []
