"""One self-contained page about one run, or about several side by side.

No network, no script: styles, drawings and pictures are in the file. Everything that comes from data or from a user
is escaped by the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from diptych import __version__
from diptych.core.errors import ConfigError
from diptych.core.records.results import Metric
from diptych.core.storage import write_text
from diptych.evaluation.reporting import format as words
from diptych.evaluation.reporting.calibration import calibration_charts
from diptych.evaluation.reporting.chart import Chart
from diptych.evaluation.reporting.confusion import Confusion, confusion
from diptych.evaluation.reporting.funnel import funnels
from diptych.evaluation.reporting.gallery import Gallery, gallery
from diptych.evaluation.reporting.information import information_charts
from diptych.evaluation.reporting.picture_rows import PictureRow, picture_rows
from diptych.evaluation.reporting.pictures import Album
from diptych.evaluation.reporting.progress_pictures import progress
from diptych.evaluation.reporting.read import RunRecord, read_runs
from diptych.evaluation.reporting.reconstructions import Pair, reconstructions
from diptych.evaluation.reporting.risk_coverage import risk_coverage_charts
from diptych.evaluation.reporting.summary import differences, environment_facts, summary
from diptych.evaluation.reporting.tables import Block, RunResult, blocks, headline
from diptych.evaluation.reporting.training import training_curves

TEMPLATES = Path(__file__).parent / "reporting" / "templates"
MOST_RUNS = 6


@dataclass(frozen=True)
class ShownResult:
    """A result with what is drawn of it.

    Attributes:
        notes: sentences about its numbers.
        rows_title: what stands above the rows of pictures.
    """

    one: RunResult
    notes: list[str]
    gallery: Gallery | None
    confusion: Confusion | None
    reconstructions: list[Pair]
    picture_rows: list[PictureRow]
    rows_title: str


@dataclass(frozen=True)
class ShownBlock:
    """A benchmark's tables, the charts that hold all runs, and for each run its drawings."""

    block: Block
    charts: list[Chart]
    results: list[ShownResult]


def write_report(run_folders: Sequence[Path | str], path: Path | str | None = None) -> Path:
    """Writes the report of some runs atomically.

    Args:
        run_folders: one to six run folders; each may lack what it has not come to yet.
        path: the file to write; `report.html` in the only run's folder when None.

    Returns:
        the path of the file written.

    Raises:
        ConfigError: no run, too many, or several without a path.
        DataError: a folder is not a run's.
        StorageError: the disk is full or the folder cannot be written.
    """
    folders = [Path(folder) for folder in run_folders]
    if not 1 <= len(folders) <= MOST_RUNS:
        raise ConfigError(f"a report shows 1 to {MOST_RUNS} runs, not {len(folders)}")
    if path is None and len(folders) > 1:
        raise ConfigError("a report of several runs needs a file to be written to: --out report.html")
    target = Path(path) if path is not None else folders[0] / "report.html"
    write_text(target, render(read_runs(folders)))
    return target


def render(runs: Sequence[RunRecord]) -> str:
    """The page of some runs."""
    found = blocks(runs)
    page = _templates().get_template("report.html")
    return page.render(
        heading=_listed([run.label for run in runs]),
        lead=_lead(runs, found),
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        runs=runs,
        summaries=[summary(run) for run in runs],
        headline=headline(found),
        curves=training_curves(runs),
        progress=[(run, progress(run.pictures)) for run in runs if run.pictures],
        blocks=[_shown(block) for block in found],
        funnels=[funnels(run.data) for run in runs],
        differences=differences(runs) if len(runs) > 1 else [],
        environments=[environment_facts(run.environment) for run in runs],
        version=__version__,
        written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
    )


def _shown(block: Block) -> ShownBlock:
    album = Album(block.data, block.split)
    charts = [
        *information_charts(block.results),
        *calibration_charts(block.results),
        *risk_coverage_charts(block.results),
    ]
    return ShownBlock(block, charts, [_shown_result(one, album) for one in block.results])


def _shown_result(one: RunResult, album: Album) -> ShownResult:
    matrix = one.result.extras.get("confusion")
    return ShownResult(
        one,
        [str(note) for note in one.result.extras.get("notes") or []],
        gallery(one.result, album),
        confusion(matrix) if matrix else None,
        reconstructions(one.result),
        picture_rows(one.result),
        str(one.result.extras.get("pictures_title") or "Filled in"),
    )


def _lead(runs: Sequence[RunRecord], found: Sequence[Block]) -> str:
    models = "one model" if len(runs) == 1 else f"{len(runs)} models side by side"
    if not found:
        return f"{models.capitalize()}: how training went. Nothing was evaluated yet."
    names = _listed(list(dict.fromkeys(words.title(block.benchmark).lower() for block in found)))
    return f"{models.capitalize()}: how training went, and what came of it on {names}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _interval(metric: Metric) -> str:
    if metric.unit == "share" or metric.low is None or metric.high is None:
        return words.interval(metric.low, metric.high)
    return f"{words.plain(metric.low)} to {words.plain(metric.high)}"


def _value(metric: Metric) -> str:
    return words.in_unit(metric.value, metric.unit)


def _as_yaml(plain: Any) -> str:
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "percent": words.percent,
        "points": words.points,
        "count": words.count,
        "duration": words.duration,
        "title_words": words.title,
        "interval": _interval,
        "in_unit": words.in_unit,
        "value": _value,
        "as_yaml": _as_yaml,
    }
    return environment
