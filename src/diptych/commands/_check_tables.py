"""What `diptych check` prints."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diptych.training.preflight.stage_check import (
    DataCheck,
    ModelCheck,
    ModuleSize,
    SpaceCheck,
    StageCheck,
    TimeCheck,
    in_bytes,
)

_INDENT = (0, 0, 0, 2)


def told(console: Console) -> Callable[[str], None]:
    """Prints what is being done, a line each."""
    return lambda line: console.print(f"[dim]{line}[/]", highlight=False)


def show(check: StageCheck, console: Console) -> None:
    """One training stage: tables by concern, then warnings."""
    console.print()
    console.rule(f"[bold]stage '{check.stage}'[/] on {check.device}", align="left", style="dim")
    _section(console, "model", _model(check.model))
    console.print(_modules(check.model.modules))
    _section(console, "data", _data(check.data))
    _section(console, "first batch", _tokens(check.data))
    console.print(_tensors(check.data))
    _section(console, "first step", _step(check.model))
    if check.metrics:
        _section(console, "untrained", [(name, f"{value:.3f}") for name, value in check.metrics.items()])
    _section(console, "time", [*_operations(check), *_time(check.time)])
    _section(console, "space", _space(check.space))
    console.print()
    for warning in check.warnings():
        console.print(Text.assemble(("! ", "bold yellow"), (warning, "yellow")))
    for failure in check.failures():
        console.print(Text.assemble(("✗ ", "bold red"), (failure, "red")))
    if not [*check.warnings(), *check.failures()]:
        console.print("[green]✓[/] nothing to remark")


def _section(console: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    console.print(f"\n[bold]{title}[/]")
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(style="dim", min_width=18)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    console.print(Padding(table, _INDENT, expand=False))


def _model(model: ModelCheck) -> list[tuple[str, str]]:
    total, trainable = sum(one.total for one in model.modules), sum(one.trainable for one in model.modules)
    return [
        ("parameters", f"{total:,}, {_of(trainable, total)} trainable"),
        ("optimizer state", in_bytes(model.optimizer_bytes)),
    ]


def _modules(modules: Sequence[ModuleSize]) -> Padding:
    rows = [(one.name, f"{one.total:,}", _of(one.trainable, one.total)) for one in modules]
    return _table(("module", "parameters", "trainable"), rows)


def _data(data: DataCheck) -> list[tuple[str, str]]:
    bad = ", ".join(f"{reason} {count}" for reason, count in sorted(data.bad.items())) or "none"
    batch = f"{data.batch_size:,}"
    if data.processes > 1:
        batch += f" over {data.processes} processes: {data.share:,} each"
    rows = [
        ("source", data.source),
        ("samples", f"{data.samples:,}"),
        ("global batch", batch),
        ("epochs", f"{data.epochs:,.2f}"),
        ("bad samples", f"{bad} of {data.read:,} read"),
    ]
    if data.shards:
        rows.append(("shards", f"{data.shards:,}: {_shards(data)}"))
    return rows


def _shards(data: DataCheck) -> str:
    """What shards mean here: samples are read by their position, so their number limits nothing."""
    text = "samples are read by position, so any number serves any number of processes and threads"
    return text if data.samples >= data.processes else f"{text}, but there are fewer samples than processes"


def _tokens(data: DataCheck) -> list[tuple[str, str]]:
    lengths = data.lengths
    if not lengths:
        return [("samples", f"{data.share:,}")]
    shortest, longest = lengths[0], lengths[-1]
    limit = max(one.tokens.limit for one in data.previews if one.tokens is not None)
    return [
        ("samples", f"{data.share:,}"),
        ("tokens", f"shortest {shortest}, median {statistics.median(lengths):g}, longest {longest} of at most {limit}"),
        ("padding", f"{data.padding:.0%} of the rows"),
        ("at the limit", f"{data.at_the_limit} of {len(lengths)} captions (cut off, unless they fit exactly)"),
    ]


def _tensors(data: DataCheck) -> Padding:
    rows = [
        (row.name, " x ".join(map(str, row.shape)), row.dtype, f"{row.low:.6g}", f"{row.high:.6g}", f"{row.mean:.4g}")
        for row in data.tensors
    ]
    return _table(("tensor", "shape", "kind", "lowest", "highest", "mean"), rows)


def _step(model: ModelCheck) -> list[tuple[str, str]]:
    parts = [(name, f"{value:.4f}") for name, value in model.losses.items() if name != "loss"]
    return [
        ("loss", f"{model.losses['loss']:.4f}"),
        *(parts if len(parts) > 1 else [(f"  {name}", value) for name, value in parts]),
        ("gradient norm", f"{model.gradient_norm:.4g}, finite"),
        ("no gradient", ", ".join(model.without_gradient) or "none of the trainable parameters"),
    ]


def _operations(check: StageCheck) -> list[tuple[str, str]]:
    """Of the passes of a step, and of the stage over all processes."""
    step, whole = check.flops, check.flops * check.time.steps * check.data.processes
    rate = f"{in_thousands(step / check.time.step)}FLOP/s here"
    return [("operations", f"{in_thousands(step)}FLOP a step and process, {in_thousands(whole)}FLOP in all; {rate}")]


def _time(time: TimeCheck) -> list[tuple[str, str]]:
    rows = [
        ("first step", f"{in_seconds(time.first)} (warms up)"),
        ("a step", f"{in_seconds(time.step)}, of it {time.wait:.0%} waiting for data"),
        ("a checkpoint", in_seconds(time.saving)),
    ]
    if time.evaluations:
        rows.append(("an evaluation", in_seconds(time.evaluation)))
    counted = ", ".join(
        f"{count:,} {what}{'s' * (count != 1)}"
        for count, what in ((time.steps, "step"), (time.evaluations, "evaluation"), (time.savings, "checkpoint"))
    )
    return [*rows, ("the whole stage", f"about {in_seconds(time.total)} ({counted}) on this machine, as busy as now")]


def _space(space: SpaceCheck) -> list[tuple[str, str]]:
    return [
        ("memory", f"{in_bytes(space.memory)} at most, of {in_bytes(space.memory_there)}"),
        ("a checkpoint", in_bytes(space.checkpoint)),
        (
            "disk",
            f"{in_bytes(space.needed)} for {space.kept} checkpoints at once and {in_bytes(space.left)} from "
            f"earlier stages; {in_bytes(space.free)} are free",
        ),
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Padding:
    """Names to the left, numbers to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return Padding(table, _INDENT, expand=False)


def _of(part: int, whole: int) -> str:
    return "all" if part == whole else f"{part:,}" if part else "none"


_PREFIXES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def in_thousands(value: float) -> str:
    """A number with the prefix of its unit: "1.5 G"."""
    for prefix, size in _PREFIXES:
        if value >= size:
            share = value / size
            return f"{share:.3g} {prefix}" if share < 999.5 else f"{share:,.0f} {prefix}"
    return f"{value:.0f} "


def in_seconds(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
