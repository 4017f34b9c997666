"""What the benchmarks share: alternating both sides, peers that may be absent, tables, results with their origin."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from diptych.core.records.environment import environment

PEERS = (
    "open_clip_torch",
    "webdataset",
    "litdata",
    "ffcv",
    "transformers",
    "diffusers",
    "timm",
    "opencv-python-headless",
    "pycocoevalcap",
)

Seconds = dict[str, list[float]]


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="where to write the JSON; printed only when left out")
    parser.add_argument("--repetitions", type=int, default=5, help="timed runs of each side; the median counts")
    parser.add_argument("--threads", type=int, default=2, help="threads or workers of each side")
    return parser


def peer(module: str, package: str) -> ModuleType:
    """Imports a peer; ends the program with one sentence where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        sys.exit(f"this benchmark compares with {package}, which is not installed: see benchmarks/requirements.txt")


def alternate(
    sides: Mapping[str, Callable[[], object]], repetitions: int, warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:  # fmt: skip
    """Seconds of each side, run in turns so that a busy moment of the machine hits all of them.

    Args:
        clock: `time.process_time` leaves out what other programs of the machine take.
    """
    seconds: Seconds = {name: [] for name in sides}
    for repetition in range(warm_up + repetitions):
        for name, run in sides.items():
            started = clock()
            run()
            if repetition >= warm_up:
                seconds[name].append(clock() - started)
    return seconds


def rate(count: int, seconds: Sequence[float]) -> float:
    """Items a second at the median."""
    return count / statistics.median(seconds)


def peak_mb() -> float:
    """The most memory that this process has held, in MB (10^6 bytes).

    From /proc: what getrusage says begins, in a process that another one started, with the other one's memory.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def in_subprocess(script: str, *options: object) -> dict[str, Any]:
    """The last line that a benchmark script prints when it is run alone with these options, read as JSON."""
    command = [sys.executable, script, *(str(option) for option in options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def matrix_rate(rows: int, inner: int, columns: int, dtype: torch.dtype, repetitions: int = 20) -> float:
    """GFLOP/s of the machine's matrix product at one shape, the median of several."""
    a, b = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    found = alternate({"product": lambda: torch.nn.functional.linear(a, b)}, repetitions, warm_up=5)
    return 2 * rows * inner * columns / statistics.median(found["product"]) / 1e9


def show(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """A table of rows; the first row's names are the columns."""
    table = Table(title=title)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(_text(row.get(name, "")) for name in names))
    Console(width=max(100, Console().width)).print(table)


def write(out: Path | None, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """The results as JSON with their origin: command, commit, versions, hardware, load of the machine."""
    if out is None:
        return
    packages = {name: version for name in PEERS if (version := _version(name))}
    found = environment()
    found["packages"] = {**packages, **found["packages"]}
    found["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    document = {
        "command": shlex.join(["python", *(_without_folders(word) for word in sys.argv)]),
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": platform.machine(),
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "environment": found,
        **more,
        "rows": [dict(row) for row in rows],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"wrote {out}")


def _without_folders(word: str) -> str:
    """A path of this machine as its last part, which is what matters elsewhere."""
    return Path(word).name if Path(word).is_absolute() else word


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)
