"""Compare evaluated runs sample by sample: differences with intervals and p-values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro


@dataclass(frozen=True)
class Arguments:
    """What to compare."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """The folders of the runs, two or more; the others are compared with the first."""
    benchmarks: tuple[str, ...] = ()
    """Which; all that every run was evaluated on when none is named."""
    seed: int = 0
    """Of the bootstrap."""
    any_settings: bool = False
    """Compare runs that were evaluated with different settings too, such as a prompt and a learned context."""
    json: bool = False
    """Print JSON instead of tables."""


def main(arguments: list[str]) -> int:
    """`diptych compare RUN RUN [RUN ...] --benchmarks retrieval`: prints one row a metric."""
    options = tyro.cli(Arguments, args=arguments, prog="diptych compare", description=__doc__)

    from diptych.core.config import to_plain
    from diptych.evaluation.compare import compare

    found = compare(options.runs, options.benchmarks, options.seed, not options.any_settings)
    if options.json:
        print(json.dumps([to_plain(one) for one in found], indent=2))
        return 0
    for benchmark in dict.fromkeys(one.benchmark for one in found):
        for second in dict.fromkeys(one.second for one in found):
            print_table([one for one in found if (one.benchmark, one.second) == (benchmark, second)])
    return 0


def print_table(rows: list[Any]) -> None:
    """The comparisons of two runs on one benchmark; an expectation that is the strict number again is left out."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{rows[0].benchmark}: {rows[0].second} against {rows[0].first}",
    )
    for column in ("metric", "first", "second", "change", "95 % interval", "p", "n"):
        table.add_column(column, no_wrap=True, justify="left" if column == "metric" else "right")
    values = {one.metric: (one.first_value, one.second_value) for one in rows}
    for one in rows:
        strict = one.metric.removesuffix("_expected")
        if strict != one.metric and values.get(strict) == values[one.metric]:
            continue
        found = one.difference
        table.add_row(
            one.metric,
            f"{one.first_value:.3f}",
            f"{one.second_value:.3f}",
            f"{found.value:+.3f}",
            f"{found.low:+.3f} to {found.high:+.3f}",
            f"{one.p:.2g}",
            str(found.n),
        )
    table.caption = "change: second minus first on the same samples; p: exact sign test, of each metric alone"
    Console().print(table)
