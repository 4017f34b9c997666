"""A study as one self-contained page: who can do what, at what cost, and what of it is more than luck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from diptych import __version__
from diptych.core.records.environment import environment
from diptych.core.records.results import Metric
from diptych.core.storage import write_text
from diptych.evaluation.report import TEMPLATES as SHARED
from diptych.evaluation.reporting import format as words
from diptych.evaluation.reporting.bar import interval_bar
from diptych.evaluation.reporting.chart import Chart, Series, line_chart
from diptych.evaluation.reporting.pictures import Album
from diptych.evaluation.reporting.summary import environment_facts
from diptych.guide.routes import family_of
from diptych.study import held_out_part
from diptych.study.config import StudyConfig
from diptych.study.findings import Cost, Row, RunRecord, costs, table
from diptych.study.significance import Difference, differences

TEMPLATE = Path(__file__).parent / "templates"
COLOURS = 6
"""That the page's style knows."""


@dataclass(frozen=True)
class Column:
    """A recipe as the page shows it."""

    label: str
    color: int
    family: str


@dataclass(frozen=True)
class Told:
    """One model's answer in the gallery."""

    column: Column
    said: str
    right: bool | None
    png: str


@dataclass(frozen=True)
class Asked:
    """One picture and one question of the gallery, with every family's answer."""

    key: str
    picture: str
    task: str
    asked: str
    truth: str
    told: list[Told]


def write_page(config: StudyConfig, runs: Sequence[RunRecord], path: Path) -> None:
    """Writes the page atomically.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    write_text(path, render(config, runs))


def render(config: StudyConfig, runs: Sequence[RunRecord]) -> str:
    """The page."""
    rows, spent = table(runs), costs(runs)
    columns = {
        recipe: Column(recipe, place % COLOURS, family_of(recipe)) for place, recipe in enumerate(config.recipes)
    }
    found = differences(rows, runs)
    return (
        templates()
        .get_template("study.html")
        .render(
            config=config,
            columns=columns,
            rows=rows,
            costs=spent,
            charts=compute_charts(rows, spent, columns),
            differences=found,
            significant=[one for one in found if one.significant],
            failures=[run for run in runs if run.finished is None],
            gallery=asked_alike(config, runs, columns),
            command=config.command(),
            parted=held_out_part.told(config),
            environment=environment_facts(environment()),
            css=Markup((SHARED / "report.css").read_text(encoding="utf-8")),
            version=__version__,
            written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        )
    )


def compute_charts(
    rows: Sequence[Row], spent: dict[str, Cost], columns: dict[str, Column], most: int = 6
) -> list[Chart]:
    """The first number of each ability against the FLOPs of all training stages."""
    found = []
    firsts = {row.ability.title: row for row in reversed(rows)}
    for row in reversed(firsts.values()):
        points = [
            Series(
                recipe,
                columns[recipe].color,
                ((spent[recipe].flops + spent[recipe].earlier_flops) / 1e12,),
                (100 * cell.metric.value if row.unit == "share" else cell.metric.value,),
            )
            for recipe, cell in row.cells.items()
            if cell.metric is not None and recipe in spent
        ]
        if len(points) > 1:
            title = f"{row.ability.title}: {row.title}{', %' if row.unit == 'share' else ''}"
            chart = line_chart(title, points, across="TFLOPs of training", include_zero=True)
            found += [chart] if chart is not None else []
    return found[:most]


def asked_alike(config: StudyConfig, runs: Sequence[RunRecord], columns: dict[str, Column]) -> list[Asked]:
    """Every question that models of the first finished seed of each recipe were asked, by picture."""
    first: dict[str, RunRecord] = {}
    for run in runs:
        if run.finished is not None:
            first.setdefault(run.recipe, run)
    told: dict[tuple[str, str, str], dict[str, Any]] = {}
    for recipe, run in first.items():
        for one in run.answers:
            place = told.setdefault((one["key"], one["task"], one["asked"]), {"truth": one["truth"], "told": []})
            place["told"].append(Told(columns[recipe], one["said"], one["right"], _picture(one["png"])))
    album = Album(config.reference, "test")
    album.open({key for key, _, _ in told})
    keys = list(dict.fromkeys(key for key, _, _ in told))
    return [
        Asked(key, album.uri(key), task, asked, found["truth"], found["told"])
        for wanted in keys
        for (key, task, asked), found in told.items()
        if key == wanted
    ]


def _picture(address: str) -> str:
    return address if address.startswith("data:image/png;base64,") else ""


def _value(metric: Metric) -> str:
    return words.in_unit(metric.value, metric.unit)


def _interval(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return ""
    if metric.unit == "share":
        return words.interval(metric.low, metric.high)
    return f"{words.plain(metric.low)} to {words.plain(metric.high)}"


def difference(one: Difference) -> str:
    """With its interval, in points where it is of shares."""
    if one.row.unit == "share":
        return f"{words.points(one.value)} points [{words.points(one.low)}, {words.points(one.high)}]"
    return f"{one.value:+.3g} [{one.low:+.3g}, {one.high:+.3g}]"


def templates() -> jinja2.Environment:
    """The pages of studies, and how numbers are written in them."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    found.filters |= {
        "value": _value,
        "interval": _interval,
        "difference": difference,
        "in_unit": words.in_unit,
        "duration": words.duration,
        "short": words.short,
        "bar": lambda metric, color: interval_bar(metric, color),
    }
    return found
