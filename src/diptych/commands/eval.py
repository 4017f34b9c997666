"""Evaluate a model on benchmarks, with intervals, chance and a line for every sample."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time they are imported where they are used, so that help answers without torch
    from diptych.core.records.results import Result


def main(arguments: list[str]) -> int:
    """`diptych eval REF --benchmarks retrieval knn --data PATH`."""
    parser = argparse.ArgumentParser(prog="diptych eval", description=__doc__)
    parser.add_argument("reference", help="a run folder, a model folder, a public folder or a hub id")
    parser.add_argument(
        "--benchmarks",
        nargs="+",
        required=True,
        help="names that `diptych list benchmarks` prints, parted by spaces or commas",
    )
    parser.add_argument("--data", help="where the samples come from (default: each benchmark's own)")
    parser.add_argument("--split", default="test", help="of the data (default test)")
    parser.add_argument("--limit", type=int, help="look at so many samples only, chosen by a hash of the key")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default auto: a GPU, if any)")
    parser.add_argument("--out", type=Path, help="where to write (default: the run's evaluation folder)")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="BENCHMARK.FIELD=VALUE", help="change a benchmark's settings"
    )
    options = parser.parse_args(arguments)

    names = list(dict.fromkeys(name for given in options.benchmarks for name in given.split(",") if name))
    settings = _settings(options.set, names)

    from diptych.capabilities.load import load
    from diptych.core.records.run_folder import RunFolder
    from diptych.evaluation.runner import benchmark_module, evaluate

    for name in names:
        benchmark_module(name)  # a wrong name is told before a model is loaded
    path = Path(options.reference)
    folder = options.out or (RunFolder(path).evaluation if RunFolder.is_one(path) else None)
    model = load(options.reference, options.device)

    def run(name: str) -> Result:
        (result,) = evaluate(
            model, [name], options.data, split=options.split, folder=folder, limit=options.limit, seed=options.seed,
            settings=settings,
        )  # fmt: skip
        return result

    return _each(names, run, folder)


def _each(names: Sequence[str], run: Callable[[str], Result], folder: Path | None) -> int:
    """Runs benchmarks and prints what came out; of several, one that cannot be run is told at the end."""
    from diptych.core.errors import DiptychError

    refused: dict[str, DiptychError] = {}
    for name in names:
        try:
            print_result(run(name))
        except DiptychError as error:
            if len(names) == 1:
                raise
            refused[name] = error
    if folder is not None and len(refused) < len(names):
        print(folder)
    for name, why in refused.items():
        print(f"diptych: {name} was not evaluated: {why}", file=sys.stderr)
    return 2 if refused else 0


def _settings(pairs: list[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{"retrieval": {"pool": 1000}} of ["retrieval.pool=1000"]; values are YAML."""
    import yaml

    from diptych.core.errors import ConfigError

    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        benchmark, dot, field = name.rpartition(".")
        if not (equals and dot):
            raise ConfigError(f"--set takes BENCHMARK.FIELD=VALUE, got '{pair}'")
        if benchmark not in names:
            raise ConfigError(f"--set {pair}: no benchmark '{benchmark}' is run here: {', '.join(names)}")
        found.setdefault(benchmark, {})[field] = yaml.safe_load(value)
    return found


def _number(metric: Any) -> str:
    return f"{metric.value:.3f}" if metric.unit == "share" else f"{metric.value:g}"


def _end(metric: Any, end: float) -> str:
    return f"{end:.3f}" if metric.unit == "share" else f"{end:.4g}"


def print_result(result: Any) -> None:
    """A table of one result."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result.benchmark}: {result.model} on {result.data} {result.split}".rstrip())
    for column in ("metric", "value", "95 % interval", "chance", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, metric in result.metrics.items():
        interval = f"{_end(metric, metric.low)} to {_end(metric, metric.high)}" if metric.low is not None else ""
        chance = f"{metric.chance:.3f}" if metric.chance is not None else ""
        table.add_row(name, _number(metric), interval, chance, str(metric.n))
    counts = result.counts
    how = ", ".join(f"{verb}: {origin}" for verb, origin in result.verbs.items())
    settings = ", ".join(f"{name} {value}" for name, value in result.settings.items() if value != "")
    table.caption = f"{counts.evaluated} evaluated, {counts.failed} failed, {counts.skipped} skipped; {how}\n{settings}"
    console = Console()
    console.print(table)
    for note in result.extras.get("notes") or []:
        console.print(f"  {note}", style="dim", markup=False)
