"""Results as tables: the headline (benchmarks down, runs across) and every metric of every benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from diptych.core.records.results import Metric, Result
from diptych.evaluation.reporting.bar import interval_bar
from diptych.evaluation.reporting.read import Evaluated, RunRecord

Place = tuple[str, str, str]
"""A benchmark, the data it read and their split: what makes results comparable."""


@dataclass(frozen=True)
class Entry:
    """One run's value of one metric."""

    run: RunRecord
    metric: Metric | None
    bar: Markup
    best: bool


@dataclass(frozen=True)
class Row:
    """A metric across runs; an entry for each run that was evaluated on it, in the runs' order."""

    benchmark: str
    data: str
    split: str
    metric: str
    entries: list[Entry]

    def of(self, run: RunRecord) -> Entry | None:
        """The entry of a run; None where it was not evaluated on this."""
        return next((entry for entry in self.entries if entry.run is run), None)

    @property
    def unit(self) -> str:
        """ "share" or "number", of the metric's values."""
        return next((e.metric.unit for e in self.entries if e.metric), "share")

    @property
    def chance(self) -> float | None:
        """What an uninformed model gets."""
        return next((e.metric.chance for e in self.entries if e.metric and e.metric.chance is not None), None)


@dataclass(frozen=True)
class RunResult:
    """A run with its result on one benchmark."""

    run: RunRecord
    evaluated: Evaluated

    @property
    def result(self) -> Result:
        return self.evaluated.result


@dataclass(frozen=True)
class Block:
    """All of one benchmark on one set of data."""

    benchmark: str
    data: str
    split: str
    rows: list[Row]
    results: list[RunResult]


def blocks(runs: Sequence[RunRecord]) -> list[Block]:
    """Every benchmark that any run was evaluated on, with every metric it has."""
    places: dict[Place, list[RunResult]] = {}
    for run in runs:
        for one in run.evaluated:
            places.setdefault((one.result.benchmark, one.result.data, one.result.split), []).append(RunResult(run, one))
    return [_block(place, found) for place, found in places.items()]


def headline(found: Sequence[Block], most: int = 6) -> list[Row]:
    """The first metrics of every benchmark that have a chance level: a benchmark lists what matters first.

    What is expected under ties is left to the benchmark's own table.
    """
    rows = []
    for block in found:
        with_chance = [row for row in block.rows if row.chance is not None and not row.metric.endswith("_expected")]
        rows += (with_chance or block.rows)[:most]
    return rows


def _block(place: Place, results: list[RunResult]) -> Block:
    names = dict.fromkeys(name for one in results for name in one.result.metrics)
    return Block(*place, [_row(place, name, results) for name in names], results)


def _row(place: Place, name: str, results: Sequence[RunResult]) -> Row:
    metrics = [one.result.metrics.get(name) for one in results]
    # What has no chance level (a tie rate, a pool's size) has no best.
    values = [metric.value for metric in metrics if metric is not None and metric.chance is not None]
    highest = max(values) if len(values) > 1 and len(set(values)) > 1 else None
    entries = [
        Entry(
            one.run,
            metric,
            interval_bar(metric, one.run.color) if metric else Markup(""),
            metric is not None and metric.value == highest,
        )
        for one, metric in zip(results, metrics, strict=True)
    ]
    return Row(*place, name, entries)
