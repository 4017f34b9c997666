"""What `diptych plan` prints and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from diptych.commands._check_tables import in_seconds, in_thousands
from diptych.guide.fit import shortage
from diptych.guide.plan import MEMORY, Entry, StagePlan, Unit, totals


def told(console: Console) -> Callable[[str], None]:
    """Prints what is being done, a line each."""
    return lambda line: console.print(f"[dim]{line}[/]", highlight=False)


def show(plans: Sequence[StagePlan], console: Console) -> None:
    """A table for each stage, then what all of them take."""
    for plan in plans:
        machine = plan.machine
        console.print()
        title = (
            f"[bold]stage '{plan.stage.stage}'[/] on {machine.count} {machine.device.name} in {plan.stage.precision}"
        )
        console.rule(title, align="left", style="dim")
        _tables(plan.entries(), console)
    if len(plans) > 1:
        console.print()
        console.rule("[bold]all stages[/]", align="left", style="dim")
        _tables(totals(plans), console)


def _tables(entries: Iterable[Entry], console: Console) -> None:
    for about, group in groupby(entries, key=lambda entry: entry.about):
        console.print(f"\n[bold]{about}[/]")
        some = list(group)
        rows = _memory(some) if about == MEMORY else _plain_rows(some)
        console.print(Padding(rows, (0, 0, 0, 2), expand=False), highlight=False)


def _plain_rows(entries: Iterable[Entry]) -> Table:
    """A number a row: what it is, the number, its interval, how it was had."""
    table = _table("", "", "")
    for entry in entries:
        table.add_row(entry.name, said(entry.value, entry.unit), _between(entry), entry.why)
    return table


def _memory(entries: Sequence[Entry]) -> Table:
    """A part a row, a column for each way to share the model; parts that are nowhere are left out."""
    ways = list(dict.fromkeys(entry.under for entry in entries))
    table = _table(*ways)
    for name in dict.fromkeys(entry.name for entry in entries):
        parts = [entry for entry in entries if entry.name == name]
        if any(part.value for part in parts):
            table.add_row(name, *(said(part.value, part.unit) for part in parts), parts[0].why)
        if _between(parts[0]):
            table.add_row("", *(_between(part) for part in parts), "from low to high")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(columns), header_style="dim")
    table.add_column("", style="dim", no_wrap=True)
    for column in columns if any(columns) else columns[:2]:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", style="dim", overflow="fold", min_width=24)
    return table


def _between(entry: Entry) -> str:
    if entry.low is None or entry.high is None:
        return ""
    return f"{said(entry.low, entry.unit)} to {said(entry.high, entry.unit)}"


def said(value: float, unit: Unit) -> str:
    """A number as people say it: 1.5 GB, 44.3 GFLOP, 2.5 h."""
    if unit == "s":
        return in_seconds(value)
    if unit == "h":
        return in_seconds(value * 3600) if value < 2 else f"{value:,.1f} h" if value < 100 else f"{value:,.0f} h"
    if unit == "money":
        return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    if unit == "":
        return f"{value:,.0f}"
    return f"{in_thousands(value)}{unit}"


def plain(plans: Sequence[StagePlan], recipe: str) -> dict[str, Any]:
    """Everything as JSON holds it."""
    machine = plans[0].machine
    return {
        "recipe": recipe,
        "devices": machine.count,
        "device": machine.device.name,
        "price": machine.price,
        "stages": [
            {
                "stage": plan.stage.stage,
                "precision": plan.stage.precision,
                "batch_size": plan.stage.batch_size,
                "does_not_fit": shortage(plan),
                "entries": [asdict(entry) for entry in plan.entries()],
            }
            for plan in plans
        ],
        "total": [asdict(entry) for entry in totals(plans)],
    }
