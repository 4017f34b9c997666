"""A small study of all five families on built-in scenes: trained, evaluated, one page. Minutes, offline."""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path


def main(arguments: list[str]) -> int:
    """`diptych demo [--out FOLDER]`: goes on where an earlier demo in the same folder stopped."""
    from diptych.study.small_study import SAMPLES

    parser = argparse.ArgumentParser(prog="diptych demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where the runs and the page go")
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, help=f"that each family is trained on (default {SAMPLES:,})"
    )
    parser.add_argument("--limit", type=int, default=100, help="samples of an evaluation (default 100)")
    parser.add_argument("--processes", type=int, default=0, help="runs at a time (default: one a core)")
    options = parser.parse_args(arguments)

    from diptych.commands._engine import engine_of
    from diptych.commands.study import study
    from diptych.core.errors import MissingExtra
    from diptych.study.small_study import small_study

    if find_spec("transformers") is None:  # said now, not after minutes of the first recipe
        raise MissingExtra("transformers", "all", "the demo's family on pretrained backbones")
    started, config = time.perf_counter(), small_study(1, options.samples, options.limit)
    code = study(config, options.out, engine_of(options.out, config.device, config.threads, options.processes))
    print(f"{time.perf_counter() - started:.0f} seconds")
    return code
