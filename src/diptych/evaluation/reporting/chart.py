"""Line charts as inline SVG: light, sharp at any size, coloured by the page so that dark mode and print work.

Colours and fonts are classes of `report.css`; the drawing holds coordinates alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from diptych.evaluation.reporting.format import short

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 38
MOST_POINTS = 300


@dataclass(frozen=True)
class Series:
    """One line: a run's values by step, or by what the chart says.

    Attributes:
        color: counts runs; the page knows its colour and its dashes.
        limit: what no run can pass, drawn as such and left out of the description.
    """

    label: str
    color: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    limit: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing with what a screen reader says of it."""

    title: str
    description: str
    svg: Markup


@dataclass(frozen=True)
class Axis:
    """A linear scale with round ticks; `position` maps a value to 0..1."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def position(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], *, at_least: int = 4, include_zero: bool = False) -> Axis:
    """An axis that holds all values, with its ends at round numbers."""
    low, high = min(values), max(values)
    if include_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= abs(high) * 1e-9:
        low, high = (low - 0.5, high + 0.5) if low == 0 else (low - abs(low) * 0.1, high + abs(high) * 0.1)
    step = round_step((high - low) / at_least)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(i * step for i in range(first, last + 1)))


def round_step(size: float) -> float:
    """The largest of 1, 2, 2.5 and 5 times a power of ten that is no more than `size`."""
    power = 10.0 ** math.floor(math.log10(size))
    return max(factor * power for factor in (1.0, 2.0, 2.5, 5.0) if factor * power <= size * (1 + 1e-9))


def line_chart(
    title: str, series: Sequence[Series], *, across: str = "step", smooth: bool = False, include_zero: bool = False
) -> Chart | None:
    """The chart of several runs; None when there is nothing finite to draw.

    Args:
        across: what the horizontal axis counts, from zero.
        smooth: draws the values faintly and their running average on top.
        include_zero: the vertical axis begins at zero, as rates and shares should.
    """
    drawn = [finite for one in series if (finite := _finite(one)).x]
    if not drawn:
        return None
    x_axis = axis([x for one in drawn for x in one.x], include_zero=True)
    y_axis = axis([y for one in drawn for y in one.y], include_zero=include_zero)
    parts = [_grid(x_axis, y_axis, across)]
    for one in drawn:
        parts += _lines(_thin(one), x_axis, y_axis, smooth=smooth)
    last = "; ".join(f"{one.label} ends at {short(one.y[-1])}" for one in drawn if not one.limit)
    description = f"{title} by {across}: {last}."
    body = Markup("").join(parts)
    svg = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, description, body
    )
    return Chart(title, description, svg)


def running_average(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """The bias-corrected exponential average of each value and those before it."""
    averages, total, mass = [], 0.0, 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        averages.append(total / mass)
    return averages


def _finite(series: Series) -> Series:
    pairs = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return replace(series, x=tuple(x for x, _ in pairs), y=tuple(y for _, y in pairs))


def _thin(series: Series) -> Series:
    """At most `MOST_POINTS` points: means of neighbours, so that a long run's chart stays small."""
    width = math.ceil(len(series.x) / MOST_POINTS)
    if width == 1:
        return series
    starts = range(0, len(series.x), width)
    x = tuple(sum(part) / len(part) for part in (series.x[i : i + width] for i in starts))
    y = tuple(sum(part) / len(part) for part in (series.y[i : i + width] for i in starts))
    return replace(series, x=x, y=y)


def _across(x_axis: Axis, x: float) -> float:
    return LEFT + x_axis.position(x) * (WIDTH - LEFT - RIGHT)


def _down(y_axis: Axis, y: float) -> float:
    return HEIGHT - BOTTOM - y_axis.position(y) * (HEIGHT - TOP - BOTTOM)


def _grid(x_axis: Axis, y_axis: Axis, across: str) -> Markup:
    parts = []
    for tick in y_axis.ticks:
        y = _down(y_axis, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{escape(short(tick))}</text>'
        )
    for tick in x_axis.ticks:
        x, anchor = _across(x_axis, tick), "end" if tick == x_axis.ticks[-1] else "middle"
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 20}" text-anchor="{anchor}">{escape(short(tick))}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>')
    return Markup("".join(parts))


def _lines(series: Series, x_axis: Axis, y_axis: Axis, *, smooth: bool) -> list[Markup]:
    across = [_across(x_axis, x) for x in series.x]
    kind = "line limit" if series.limit else f"line color-{series.color}"
    if len(across) == 1:
        y = _down(y_axis, series.y[0])
        return [
            Markup('<circle class="dot color-{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(series.color, across[0], y)
        ]
    if not smooth or len(across) < 20:
        return [_polyline(kind, across, series.y, y_axis)]
    return [
        _polyline(f"{kind} faint", across, series.y, y_axis),
        _polyline(kind, across, running_average(series.y), y_axis),
    ]


def _polyline(kind: str, across: Sequence[float], values: Sequence[float], y_axis: Axis) -> Markup:
    points = " ".join(f"{x:.1f},{_down(y_axis, y):.1f}" for x, y in zip(across, values, strict=True))
    return Markup('<polyline class="{}" points="{}"/>').format(kind, points)
