"""What `diptych classify`, `caption` and `ask` share: their arguments, the run over the pictures, what is shown."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from diptych.capabilities.predictor import Predictor
    from diptych.core.source import Source
    from diptych.serving.job import Answered, Ask, Outcome, Skipped
    from diptych.serving.page import Card, Group

INTERRUPTED = 130
_SHOWN = 40
"""Rows of the table in the terminal."""
_TOLD = 20
"""Pictures that were left out of which the terminal tells one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that are the same for every command."""
    parser.add_argument("path", help="a folder of pictures, with all below it; a picture; or other data: tars, parquet")
    parser.add_argument("--model", required=True, help="a run folder, a model folder, a public folder or a hub id")
    parser.add_argument("--out", type=Path, help="write every answer to a .csv or .jsonl file")
    parser.add_argument("--html", type=Path, help="write a page with thumbnails, whole in one file")
    parser.add_argument("--open", action="store_true", help="open the page of --html in the browser")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default auto: a GPU, if any)")
    parser.add_argument("--batch-size", type=int, default=64, help="pictures the model sees at once (default 64)")
    parser.add_argument("--threads", type=int, default=2, help="that read and decode pictures (default 2)")


@dataclass(frozen=True)
class Told:
    """How the answers of a command are shown.

    Attributes:
        title, lead: of the page.
        facts: of the page: names and values.
        first, more: the columns that stand first, and those that stand smaller below.
        grouped: whether pictures with the same first column stand together.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    first: str
    more: tuple[str, ...] = ()
    grouped: bool = False


def check(options: argparse.Namespace) -> None:
    """Looks over what can be wrong before a model is loaded.

    Raises:
        ConfigError: a number or a name that cannot be.
        StorageError: a place that cannot be written.
    """
    from diptych.core.errors import ConfigError
    from diptych.serving.output import check_table, check_writable

    if options.batch_size < 1 or options.threads < 1:
        raise ConfigError(f"--batch-size {options.batch_size} and --threads {options.threads} must be at least 1")
    if options.open and options.html is None:
        raise ConfigError("--open needs a page to open: --html FILE")
    if options.out is not None:
        check_table(options.out)
    if options.html is not None:
        if options.html.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--html {options.html}: the page's name must end in .html")
        check_writable(options.html)


def answer(options: argparse.Namespace, prepare: Callable[[Predictor], tuple[Ask, Told]]) -> int:
    """Loads the model, asks about every picture, shows and writes what it says.

    Args:
        prepare: the question to a model, and how its answers are shown; refuses a model that cannot answer it.
    """
    from rich.console import Console

    from diptych.capabilities.load import load
    from diptych.serving.job import demand_answers
    from diptych.serving.pictures import open_pictures

    check(options)
    source = open_pictures(options.path)
    model = load(options.model, options.device)
    ask, told = prepare(model)
    done = run(model, source, ask, options)
    demand_answers(done, model, source)
    console = Console()
    show_table(console, done.answered)
    error = write_all(options, done, told, source)
    show_end(console, done)
    if error is not None:
        raise error
    if options.open and not done.stopped:
        webbrowser.open(options.html.resolve().as_uri())
    return INTERRUPTED if done.stopped else 0


def run(model: Predictor, source: Source, ask: Ask, options: argparse.Namespace) -> Outcome:
    """Asks about every picture, with a bar on stderr."""
    from diptych.serving.job import JobOptions, ask_all

    job = JobOptions(options.batch_size, options.threads, options.html is not None)
    with progress(len(source)) as advance:
        return ask_all(model, source, ask, job, advance)


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; it is told how many pictures more are done with."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("pictures", total=total)
        yield lambda count: bar.advance(task, count)


def write_all(options: argparse.Namespace, done: Outcome, told: Told, source: Source) -> Exception | None:
    """Writes the files that were asked for; what one of them cannot have does not keep the other from being written."""
    from diptych.core.errors import StorageError
    from diptych.serving.output import write_table
    from diptych.serving.page import Page, write_page

    failed: Exception | None = None
    try:
        if options.out is not None:
            write_table(done.answered, options.out)
    except StorageError as error:
        failed = error
    try:
        if options.html is not None:
            page = Page(told.title, told.lead, told.facts, groups(done.answered, told, source), done.skipped)
            write_page(page, options.html)
    except StorageError as error:
        failed = failed or error
    return failed


def groups(answered: Sequence[Answered], told: Told, source: Source) -> list[Group]:
    """The cards of a page: all in a row, or by their first column, the largest group first."""
    from diptych.serving.page import Group

    if not told.grouped:
        return [Group("", [_card(one, told, source) for one in answered])]
    found: dict[str, list[Answered]] = {}
    for one in answered:
        found.setdefault(str(one.row[told.first]), []).append(one)
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Group(name, [_card(one, told, source) for one in some]) for name, some in ranked]


def _card(one: Answered, told: Told, source: Source) -> Card:
    from diptych.serving.output import printable
    from diptych.serving.page import Card
    from diptych.serving.pictures import PictureFolder

    address = source.path(one.key).resolve().as_uri() if isinstance(source, PictureFolder) else ""
    more = " · ".join(f"{_cell(one.row[name])}" for name in told.more if name in one.row)
    return Card(printable(one.key), one.thumbnail, _cell(one.row[told.first]), more, address)


def show_table(console: Console, answered: Sequence[Answered]) -> None:
    """The first answers, a row each."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from diptych.serving.output import FILE, printable

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    names = list(dict.fromkeys(name for one in answered[:_SHOWN] for name in one.row))
    for name in (FILE, *names):
        table.add_column(name, overflow="fold", justify="right" if name.startswith(("score", "rank")) else "left")
    for one in answered[:_SHOWN]:
        table.add_row(Text(printable(one.key)), *(Text(printable(_cell(one.row.get(name, "")))) for name in names))
    console.print(table)
    if len(answered) > _SHOWN:
        console.print(f"... and {len(answered) - _SHOWN:,} more: --out FILE writes all of them", style="dim")


def show_end(console: Console, done: Outcome) -> None:
    """How many, how long, and what was left out with its reason."""
    share = done.model_seconds / done.seconds if done.seconds else 1.0
    console.print(
        f"{len(done.answered):,} of {done.total:,} pictures in {done.seconds:.1f} s, of which the model was at work "
        f"{share:.0%}",
        highlight=False,
    )
    if done.stopped:
        console.print("[yellow]interrupted[/]: what was answered until then is kept")
    show_skipped(console, done.skipped)


def show_skipped(console: Console, skipped: Sequence[Skipped]) -> None:
    """The pictures that were left out."""
    from rich.text import Text

    from diptych.serving.output import printable

    if not skipped:
        return
    console.print(f"[yellow]{len(skipped):,} left out[/]:", highlight=False)
    for one in skipped[:_TOLD]:
        console.print(Text(f"  {printable(one.key)}: {printable(one.reason)}"))
    if len(skipped) > _TOLD:
        console.print(f"  ... and {len(skipped) - _TOLD:,} more: a page (--html) lists all of them", style="dim")


def _cell(value: str | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
