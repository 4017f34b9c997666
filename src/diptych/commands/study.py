"""Families side by side: the same data and budget, several seeds, every benchmark that each can meet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time they are imported where they are used, so that help answers without torch
    from diptych.study.config import StudyConfig
    from diptych.study.findings import RunRecord
    from diptych.study.queue import Engine


def main(arguments: list[str]) -> int:
    """`diptych study clip_tiny coca_tiny --data PATH --samples 64000 --seeds 5 --out runs/study`."""
    from diptych.commands._engine import add_engine_options, engine_of
    from diptych.study.config import FAMILIES, SCENES, StudyBudget, StudyConfig

    parser = argparse.ArgumentParser(prog="diptych study", description=__doc__)
    parser.add_argument("recipes", nargs="*", help=f"default: {' '.join(FAMILIES)}")
    parser.add_argument("--data", default=SCENES, help="what all train on, and are evaluated on (default: scenes)")
    parser.add_argument("--samples", type=int, default=0, help="budget: samples seen (default 32000)")
    parser.add_argument("--seconds", type=float, default=0.0, help="budget: seconds of training on this machine")
    parser.add_argument("--flops", type=float, default=0.0, help="budget: FLOPs of forward and backward passes")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs of each (default 1)")
    parser.add_argument("--limit", type=int, default=400, help="samples of an evaluation (default 400)")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="where runs, table and page go")
    add_engine_options(parser)
    parser.add_argument("--threads", type=int, default=1, help="torch's, of each run; 0 for each recipe's own")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default auto: a GPU, if any)")
    parser.add_argument("--set", nargs="*", default=[], metavar="RECIPE.FIELD=VALUE", help="change one recipe's fields")
    parser.add_argument("--report", action="store_true", help="only write the page of what is there")
    options = parser.parse_args(arguments)

    from diptych.capabilities.load import check_device

    given = options.samples or options.seconds or options.flops
    config = StudyConfig(
        recipes=tuple(options.recipes) or FAMILIES,
        data=options.data,
        budget=StudyBudget(options.samples if given else 32_000, options.seconds, options.flops),
        seeds=options.seeds,
        limit=options.limit,
        options=tuple(options.set),
        threads=options.threads,
        device=str(check_device(options.device)),
    )
    engine = (
        None
        if options.report
        else engine_of(options.out, options.device, options.threads, options.processes, options.ray)
    )
    return study(config, options.out, engine)


def study(config: StudyConfig, out: Path, engine: Engine | None) -> int:
    """Runs what is missing, and writes table and page; 1 when nothing at all finished.

    Args:
        engine: None to write the page of what is there.
    """
    from diptych.study.findings import read_runs
    from diptych.study.held_out_part import with_test_part
    from diptych.study.page import write_page
    from diptych.study.queue import run_all
    from diptych.study.record import write_record
    from diptych.training.configured import recipe

    for name in config.recipes:
        recipe(name)  # a wrong name is told before anything runs
    config = with_test_part(config, out)
    if engine is not None:
        run_all(config.runs(), out, engine, print)
    runs = read_runs(config, out)
    write_record(config, runs, out / "study.json")
    write_page(config, runs, out / "study.html")
    print_table(config, runs)
    print((out / "study.html").resolve())
    return 0 if any(run.finished for run in runs) else 1


def print_table(config: StudyConfig, runs: list[RunRecord]) -> None:
    """The table of abilities in the terminal."""
    from rich.console import Console
    from rich.table import Table

    from diptych.evaluation.reporting.format import MISSING, in_unit
    from diptych.study.findings import table

    shown = Table(title=f"{config.budget} each, {config.seeds} seed{'s' * (config.seeds > 1)}, {config.data}")
    for column in ("", *config.recipes, "chance"):
        shown.add_column(column, justify="left" if not column else "right")
    for row in table(runs):
        cells = [in_unit(cell.metric.value, row.unit) if cell.metric else MISSING for cell in row.cells.values()]
        shown.add_row(f"{row.ability.title}: {row.title}", *cells, in_unit(row.chance, row.unit))
    Console().print(shown)
    for run in runs:
        if run.finished is None:
            print(f"{run.recipe}, seed {run.seed}: {run.why}")
