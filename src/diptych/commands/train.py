"""Run a recipe: train, evaluate, keep everything in a run folder."""

from __future__ import annotations

import argparse
from pathlib import Path

USAGE = "diptych train RECIPE [--data PATH] [--run FOLDER] [--resume latest] [--FIELD VALUE ...]"


def main(arguments: list[str]) -> int:
    """`diptych train clip_tiny --optimizer.lr 1e-3`: any field of the recipe by its dotted name."""
    parser = argparse.ArgumentParser(prog="diptych train", usage=USAGE, description=__doc__, add_help=False)
    parser.add_argument("recipe", nargs="?", help="a name that `diptych list recipes` prints, or my_package.runs:small")
    parser.add_argument("--run", type=Path, help="the run's folder (default runs/RECIPE)")
    parser.add_argument("--resume", choices=("latest",), help="go on from the newest checkpoint in the folder")
    options, rest = parser.parse_known_args(arguments)
    if options.recipe is None:
        parser.print_help()
        return 0 if "--help" in arguments else 2

    from diptych.training.configured import as_saved, overridden, recipe
    from diptych.training.fit import fit

    folder = options.run or Path("runs") / options.recipe.rpartition(":")[2]
    defaults = recipe(options.recipe)
    if options.resume is not None:
        defaults = as_saved(defaults, folder)
    run = overridden(defaults, rest, f"diptych train {options.recipe}")
    place = fit(run, folder, resume=options.resume is not None)
    print(place.path)
    return 0
