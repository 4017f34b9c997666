"""A metric on a line from 0 to 100 %: the value, its interval, and where chance lies."""

from __future__ import annotations

from markupsafe import Markup

from diptych.core.records.results import Metric
from diptych.evaluation.reporting.format import interval, percent

WIDTH, HEIGHT, EDGE = 132, 14, 4


def interval_bar(metric: Metric, color: int) -> Markup:
    """The bar as inline SVG, with the numbers as its label for a screen reader; nothing for what is no share."""
    if metric.unit != "share":
        return Markup("")
    middle = HEIGHT / 2
    parts = [_line("track", EDGE, WIDTH - EDGE, middle, middle)]
    if metric.chance is not None:
        parts.append(_line("chance", _at(metric.chance), _at(metric.chance), 1, HEIGHT - 1))
    if metric.low is not None and metric.high is not None:
        parts.append(_line(f"range color-{color}", _at(metric.low), _at(metric.high), middle, middle))
    dot = Markup('<circle class="dot color-{}" cx="{:.1f}" cy="{:.1f}" r="3.6"/>')
    parts.append(dot.format(color, _at(metric.value), middle))
    return Markup('<svg class="bar" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, spoken(metric), Markup("").join(parts)
    )


def spoken(metric: Metric) -> str:
    """The metric as a sentence."""
    words = [percent(metric.value)]
    if metric.low is not None:
        words.append(f"interval {interval(metric.low, metric.high)}")
    if metric.chance is not None:
        words.append(f"chance {percent(metric.chance)}")
    return ", ".join(words)


def _at(fraction: float) -> float:
    return EDGE + min(max(fraction, 0.0), 1.0) * (WIDTH - 2 * EDGE)


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    line = Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
    return line.format(kind, x1, x2, y1, y2)
