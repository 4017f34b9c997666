"""One recipe, one thing changed at a time: the effect of each with its interval (MM1's changes by default)."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time they are imported where they are used, so that help answers without torch
    from diptych.study.ablation import AblationConfig
    from diptych.study.findings import RunRecord
    from diptych.study.queue import Engine


def main(arguments: list[str]) -> int:
    """`diptych ablate --samples 25600 --seeds 5 --out runs/mm1`; `diptych ablate my_arms.json --seconds 120`."""
    from diptych.commands._engine import add_engine_options, engine_of

    parser = argparse.ArgumentParser(prog="diptych ablate", description=__doc__)
    parser.add_argument("arms", nargs="?", type=Path, help="a JSON file of a base and its changes (default: MM1's)")
    parser.add_argument("--data", default="", help="what all train on, and are evaluated on (default: the file's)")
    parser.add_argument("--samples", type=int, default=0, help="budget: samples seen (default 25600)")
    parser.add_argument("--seconds", type=float, default=0.0, help="budget: seconds of training on this machine")
    parser.add_argument("--flops", type=float, default=0.0, help="budget: FLOPs of forward and backward passes")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--limit", type=int, default=400, help="samples of an evaluation (default 400)")
    parser.add_argument("--factors", nargs="*", default=[], help="only these of the file's factors")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="change fields of the base")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="where runs, table and page go")
    add_engine_options(parser)
    parser.add_argument("--threads", type=int, default=1, help="torch's, of each run; 0 for the recipe's own")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default auto: a GPU, if any)")
    parser.add_argument("--report", action="store_true", help="only write the page of what is there")
    options = parser.parse_args(arguments)
    command = f"diptych ablate {shlex.join(arguments)}".rstrip()
    engine = (
        None
        if options.report
        else engine_of(options.out, options.device, options.threads, options.processes, options.ray)
    )
    return ablate(_config(options), command, options.out, engine)


def _config(options: argparse.Namespace) -> AblationConfig:
    from diptych.capabilities.load import check_device
    from diptych.study.ablation import MM1, read_arms
    from diptych.study.config import StudyBudget

    given = options.samples or options.seconds or options.flops
    budget = StudyBudget(options.samples if given else 25_600, options.seconds, options.flops)
    config = read_arms(
        options.arms or MM1, budget, data=options.data, seeds=options.seeds, limit=options.limit,
        threads=options.threads, device=str(check_device(options.device)),
    )  # fmt: skip
    return config.with_base(options.set).of_factors(options.factors)


def ablate(config: AblationConfig, command: str, out: Path, engine: Engine | None) -> int:
    """Runs what is missing, and writes table and page; 1 when nothing at all finished.

    Args:
        engine: None to write the page of what is there.
    """
    from diptych.study.ablation_page import write_ablation_page
    from diptych.study.effects import write_effects
    from diptych.study.findings import read_runs
    from diptych.study.held_out_part import with_test_part
    from diptych.study.queue import run_all

    config.check()
    config = with_test_part(config, out)
    if engine is not None:
        run_all(config.runs(), out, engine, print)
    runs = read_runs(config, out)
    write_effects(config, runs, out / "ablation.json")
    write_ablation_page(config, runs, command, out / "ablation.html")
    print_effects(config, runs)
    print((out / "ablation.html").resolve())
    return 0 if any(run.finished for run in runs) else 1


def print_effects(config: AblationConfig, runs: list[RunRecord]) -> None:
    """The effects of the answering and captioning numbers in the terminal; the page has all."""
    from rich.console import Console
    from rich.table import Table

    from diptych.evaluation.reporting.format import MISSING
    from diptych.study.effects import effects_of
    from diptych.study.page import difference

    found = effects_of(config, runs)
    shown = Table(title=f"change minus base: {config.budget} each, {config.seeds} seeds, {config.data}")
    titles = [title for title, row in found.rows.items() if row.ability.benchmark in ("vqa", "captioning")]
    for column in ("", *titles):
        shown.add_column(column, justify="left" if not column else "right")
    for one in found.arms:
        cells = [difference(one.effects[title]) if title in one.effects else MISSING for title in titles]
        shown.add_row(one.arm.column, *cells)
    Console().print(shown)
    for run in runs:
        if run.finished is None:
            print(f"{run.recipe}, seed {run.seed}: {run.why}")
