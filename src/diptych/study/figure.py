"""A study as one picture: what each family can do, above chance or not, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diptych.core.storage import storage_errors
from diptych.evaluation.reporting.format import MISSING
from diptych.guide.routes import family_of

_MAP = "YlGnBu"
_INK, _SOFT, _EMPTY = "#1b2430", "#66717f", "#f1f2f4"
_WIDTH, _ROW = 9.6, 0.5
"""Inches."""


def write_picture(record: dict[str, Any], path: Path) -> None:
    """Writes a record (study/record.py) as a PNG.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    figure = drawn(record)
    with storage_errors(path):
        figure.savefig(path, dpi=130, facecolor="white")
    pyplot.close(figure)


def drawn(record: dict[str, Any]) -> Figure:
    """The picture.

    Cells are shaded by how far they are from chance to the most that there is: 1 for shares, the best family's number
    for others.
    """
    rows, recipes = record["rows"], record["study"]["recipes"]
    figure, axes = pyplot.subplots(figsize=(_WIDTH, 1.9 + _ROW * (len(rows) + 2)), layout="constrained")
    _heads(axes, recipes)
    for place, row in enumerate(rows):
        first = not place or rows[place - 1]["ability"] != row["ability"]
        _row(axes, place, row, recipes, first)
    _costs(axes, len(rows), record["costs"], recipes)
    axes.set_xlim(-2.8, len(recipes) + 0.75)
    axes.set_ylim(len(rows) + 2.1, -1.3)
    axes.axis("off")
    study = record["study"]
    seeds = f"{study['seeds']} seeds, 95 % t intervals over them" if study["seeds"] > 1 else "one seed"
    budget = next(f"{value:,.0f} {name}" for name, value in study["budget"].items() if value)
    figure.suptitle(f"Five families on the same {budget}" if len(recipes) == 5 else f"The same {budget}", color=_INK)
    axes.set_title(f"{seeds}; at most {study['limit']} held-out samples each", color=_SOFT, fontsize=9)
    return figure


def _heads(axes: Axes, recipes: list[str]) -> None:
    for column, recipe in enumerate(recipes):
        family = family_of(recipe).replace("pretrained ", "pretrained\n")
        axes.text(column, -1.08, family, ha="center", va="center", fontsize=9, weight="bold", color=_INK)
        axes.text(column, -0.65, recipe, ha="center", va="center", fontsize=7.5, color=_SOFT)
    axes.text(len(recipes) + 0.1, -0.8, "chance", ha="center", va="center", fontsize=8.5, color=_SOFT)


def _row(axes: Axes, place: int, row: dict[str, Any], recipes: list[str], first: bool) -> None:
    if first:
        axes.text(-2.75, place, row["ability"], va="center", fontsize=8.5, weight="bold", color=_INK)
        axes.axhline(place - 0.5, color="#d7dbe0", linewidth=0.6)
    axes.text(-0.6, place, row["title"], ha="right", va="center", fontsize=8, color=_INK)
    metrics = {recipe: row["cells"][recipe]["metric"] for recipe in recipes}
    best = max(metric["value"] for metric in metrics.values() if metric)
    for column, metric in enumerate(metrics.values()):
        if metric is None:
            _box(axes, column, place, _EMPTY)
            axes.text(column, place, MISSING, ha="center", va="center", color=_SOFT)
            continue
        share = metric["unit"] == "share"
        chance = (metric["chance"] if metric["chance"] is not None else row["chance"]) or 0.0
        top = 1.0 if share else max(best, 1e-9)
        _number(axes, column, place, metric, min(max((metric["value"] - chance) / max(top - chance, 1e-9), 0.0), 1.0))
    if row["chance"] is not None:
        unit = next(metric["unit"] for metric in metrics.values() if metric)
        axes.text(
            len(recipes) + 0.1, place, _said(row["chance"], unit), ha="center", va="center", fontsize=8, color=_SOFT
        )


def _number(axes: Axes, column: int, place: int, metric: dict[str, Any], shade: float) -> None:
    """A number with its interval, on its shade."""
    _box(axes, column, place, matplotlib.colormaps[_MAP](0.05 + 0.8 * shade))
    ink = "white" if shade > 0.6 else _INK
    axes.text(column, place - 0.14, _said(metric["value"], metric["unit"]), ha="center", va="center", color=ink)
    if metric["low"] is not None:
        low, high = (_said(metric[end], metric["unit"]) for end in ("low", "high"))
        axes.text(
            column,
            place + 0.25,
            f"{low.removesuffix(' %')} to {high}",
            ha="center",
            va="center",
            fontsize=6.5,
            color=ink,
        )


def _box(axes: Axes, column: int, place: int, colour: Any) -> None:
    axes.add_patch(matplotlib.patches.Rectangle((column - 0.48, place - 0.46), 0.96, 0.92, color=colour, linewidth=0))


def _said(value: float, unit: str) -> str:
    return f"{100 * value:.0f} %" if unit == "share" else f"{value:.2f}"


def _costs(axes: Axes, place: int, costs: dict[str, Any], recipes: list[str]) -> None:
    """Training's TFLOPs and seconds; what was trained before the shared budget stands apart."""
    axes.axhline(place - 0.5, color=_INK, linewidth=0.8)
    axes.text(-2.75, place + 0.1, "Cost of training", va="center", fontsize=8.5, weight="bold", color=_INK)
    for line, (what, title, scale) in enumerate((("flops", "TFLOPs", 1e12), ("seconds", "seconds", 1.0))):
        axes.text(-0.6, place + 0.1 + line, title, ha="right", va="center", fontsize=8, color=_INK)
        for column, recipe in enumerate(recipes):
            if recipe in costs:
                now, before = costs[recipe][what] / scale, costs[recipe][f"earlier_{what}"] / scale
                text = f"{now:.3g}" + (f"\n+ {before:.3g} before" if before else "")
                axes.text(column, place + 0.1 + line, text, ha="center", va="center", fontsize=8, color=_INK)
