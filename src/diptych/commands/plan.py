"""What a run would take on other devices: memory by part, hours, money, storage; follows a few samples here."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

USAGE = (
    "diptych plan RECIPE [--gpus 8xA100] [--samples 400M] [--price 2.0] [--probe] [--out plan.json] [--data PATH] "
    "[--FIELD VALUE ...]"
)


def main(arguments: list[str]) -> int:
    """`diptych plan clip_tiny --gpus 8xA100 --batch_size 4096`: the fields are those of `diptych train`."""
    parser = argparse.ArgumentParser(prog="diptych plan", usage=USAGE, description=__doc__, add_help=False)
    parser.add_argument("recipe", nargs="?", help="a name that `diptych list recipes` prints, or my_package.runs:small")
    parser.add_argument("--gpus", default="1xcpu", help="how many of which device (8xA100); cpu is this machine's")
    parser.add_argument("--samples", help="seen in training, repetitions counted: 12k, 400M (default: the recipe's)")
    parser.add_argument("--price", type=float, default=0.0, help="of a device for an hour")
    parser.add_argument("--probe", action="store_true", help="measure steps of a part of the batch on this machine")
    parser.add_argument("--out", type=Path, help="where to write everything as JSON")
    options, rest = parser.parse_known_args(arguments)
    if options.recipe is None:
        parser.print_help()
        return 0 if "--help" in arguments else 2

    from rich.console import Console

    from diptych.commands._plan_tables import plain, show, told
    from diptych.commands._planning import planned
    from diptych.core.errors import ConfigError
    from diptych.core.storage import write_text
    from diptych.guide.fit import shortage

    plans = planned(
        options.recipe, rest, options.gpus, options.samples, options.price, options.probe, told(Console(stderr=True))
    )
    show(plans, Console())
    if options.out is not None:
        write_text(options.out, json.dumps(plain(plans, options.recipe), indent=2) + "\n")
    if short := [sentence for plan in plans if (sentence := shortage(plan))]:
        raise ConfigError("; ".join(short))
    return 0
