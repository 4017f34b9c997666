"""Numbers as a reader wants them: fractions become percentages here and nowhere else."""

from __future__ import annotations

import math

NARROW_SPACE = "\u202f"
MISSING = "\u2013"


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.6234 as "62.3 %"; a dash where there is no number."""
    if fraction is None or not math.isfinite(fraction):
        return MISSING
    return f"{100 * fraction:.{digits}f}{NARROW_SPACE}%"


def points(difference: float | None) -> str:
    """A difference of two fractions in percentage points, with its sign: "+3.1"."""
    if difference is None or not math.isfinite(difference):
        return MISSING
    return f"{100 * difference:+.1f}".replace("-", "\u2212")


def interval(low: float | None, high: float | None) -> str:
    """Two fractions as "58.1 to 66.4 %"."""
    if low is None or high is None:
        return MISSING
    return f"{100 * low:.1f} to {percent(high)}"


def count(number: float | None) -> str:
    """12345 as "12,345"."""
    return MISSING if number is None else f"{number:,.0f}"


def plain(number: float) -> str:
    """A rank or a size as it is: 14600 as "14,600", 29.5 as "29.5", 0.001234 as "0.00123"."""
    if not math.isfinite(number):
        return MISSING
    if 0 < abs(number) < 0.1:
        return f"{number:.3g}"
    written = f"{number:,.2f}"
    return written.rstrip("0").rstrip(".")


def in_unit(number: float | None, unit: str) -> str:
    """A share as a percentage, a number as it is; a dash where there is none."""
    if number is None:
        return MISSING
    return percent(number) if unit == "share" else plain(number)


def short(number: float | None) -> str:
    """A size in three digits: 1234567 as "1.23 M"."""
    if number is None or not math.isfinite(number):
        return MISSING
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{NARROW_SPACE}{unit}"
    return f"{number:.4g}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: "2 h 05 min", "1 min 12 s", "9.3 s"."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}{NARROW_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NARROW_SPACE}min {rest:02d}{NARROW_SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NARROW_SPACE}h {minutes:02d}{NARROW_SPACE}min"


def title(name: str) -> str:
    """A file or metric name as words: "scene_pairs" as "Scene pairs"."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
