"""Charts of how much a model's vectors share with the texts, and of the bits that takes; runs side by side.

A result's `extras["rate_distortion"]` is
    {"batch": B of what follows but the bounds,
     "bound": [{"batch": B, "bits": the bound, "cap": log2 B, ...}],
     "text": [{"beta": ..., "rate": bits a picture, "distortion": bits about the text}],
     "error": [the same, with the squared error as a share of the variance],
     "masking": [{"share": that is hidden, "rate": bits a picture, "bits": the bound}]}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from diptych.evaluation.reporting.chart import Chart, Series, line_chart
from diptych.evaluation.reporting.tables import RunResult

BITS = "bits a picture"


def information_charts(results: Sequence[RunResult]) -> list[Chart]:
    """What there is to draw of the results of one benchmark; nothing for those that measured no information."""
    found = [(one, plain) for one in results if (plain := one.result.extras.get("rate_distortion"))]
    if not found:
        return []
    return [chart for chart in (_bounds(found), *_curves(found), *_masking(found)) if chart is not None]


Found = Sequence[tuple[RunResult, dict[str, Any]]]


def _bounds(found: Found) -> Chart | None:
    caps = tuple(sorted({float(row["cap"]) for _, plain in found for row in plain["bound"]}))
    lines = [*_series(found, "bound", "cap", "bits"), Series("the cap", 0, (0.0, *caps), (0.0, *caps), limit=True)]
    return line_chart("Bits shared with the text, and their cap", lines, across="log2 of the batch", include_zero=True)


def _curves(found: Found) -> list[Chart | None]:
    """Below the limit nothing can be: a bit of the vector takes away one bit of uncertainty at most."""
    cap = max(math.log2(plain["batch"]) for _, plain in found)
    limit = Series("the limit", 0, (0.0, cap), (cap, 0.0), limit=True)
    text = [*_series(found, "text", "rate", "distortion"), limit]
    error = _series(found, "error", "rate", "distortion")
    return [
        line_chart("Bits left to know of the text", text, across=BITS, include_zero=True),
        line_chart("Squared error, share of the variance", error, across=BITS, include_zero=True),
    ]


def _masking(found: Found) -> list[Chart | None]:
    across = "share of the picture that is hidden"
    rates, bits = (_series(found, "masking", "share", name) for name in ("rate", "bits"))
    return [
        line_chart("Bits a picture at a fixed step", rates, across=across, include_zero=True),
        line_chart("Bits shared with the text", bits, across=across, include_zero=True),
    ]


def _series(found: Found, curve: str, x: str, y: str) -> list[Series]:
    """A line for each run, its points in the order of x."""
    lines = []
    for one, plain in found:
        points = sorted((float(row[x]), float(row[y])) for row in plain[curve])
        lines.append(Series(one.run.label, one.run.color, tuple(x for x, _ in points), tuple(y for _, y in points)))
    return lines
