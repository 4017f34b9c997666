"""Try a few steps of a recipe before a long run: sizes, tokens, memory, disk, time, a sample to look at."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

USAGE = "diptych check RECIPE [--data PATH] [--device D] [--run FOLDER] [--out PNG] [--processes N] [--FIELD VALUE ...]"


def main(arguments: list[str]) -> int:
    """`diptych check clip_tiny --data photos --batch_size 256`: the fields are those of `diptych train`."""
    parser = argparse.ArgumentParser(prog="diptych check", usage=USAGE, description=__doc__, add_help=False)
    parser.add_argument("recipe", nargs="?", help="a name that `diptych list recipes` prints, or my_package.runs:small")
    parser.add_argument("--run", type=Path, help="where the run would lie (default runs/RECIPE); nothing stays there")
    parser.add_argument("--out", type=Path, help="the picture of a few samples (default check_RECIPE.png)")
    parser.add_argument(
        "--processes", type=int, help="how many the run would have; one of them, with its share of a batch, is tried"
    )
    options, rest = parser.parse_known_args(arguments)
    if options.recipe is None:
        parser.print_help()
        return 0 if "--help" in arguments else 2

    from rich.console import Console

    from diptych.commands._check_sheet import sheet
    from diptych.commands._check_tables import show, told
    from diptych.core.errors import ConfigError
    from diptych.core.records.run_folder import RunFolder
    from diptych.core.storage import atomic_file
    from diptych.training.configured import overridden, recipe
    from diptych.training.preflight.check import check

    name = options.recipe.rpartition(":")[2]
    folder = options.run or Path("runs") / name
    run = overridden(recipe(options.recipe), rest, f"diptych check {options.recipe}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("diptych check runs in one process: leave torchrun away and say --processes N instead")
    if options.processes is not None and options.processes < 1:
        raise ConfigError(f"--processes {options.processes}: there is at least one")
    found = check(run, folder, processes=options.processes or 1, tell=told(Console(stderr=True)))

    console = Console()
    for one in found:
        show(one, console)
    picture = sheet(run.name, found)
    if picture is not None:
        out = options.out or Path(f"check_{name}.png")
        with atomic_file(out) as part:
            picture.save(part, format="PNG")
            part.chmod(0o644)
        console.print(f"\nWhat the model sees: [bold]{out}[/]", highlight=False)
    if RunFolder.is_one(folder):
        console.print(f"[yellow]![/] {folder} holds a run already: train with --run and another folder")
    failures = [failure for one in found for failure in one.failures()]
    if failures:
        raise ConfigError("; ".join(failures))
    return 0
