"""Write a contact sheet of the built-in scenes with their captions, to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

_MOST = 400


def main(arguments: list[str]) -> int:
    """`diptych scenes --out sheet.png`."""
    parser = argparse.ArgumentParser(prog="diptych scenes", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("scenes.png"))
    parser.add_argument("--count", type=int, default=12, help=f"pictures on the sheet, at most {_MOST}")
    parser.add_argument("--split", default="train")
    parser.add_argument("--objects", type=int, default=3, help="at most so many objects")
    parser.add_argument("--size", type=int, default=64, help="of a picture in pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    from diptych.core.errors import ConfigError
    from diptych.core.storage import atomic_file
    from diptych.data.scenes.draw import SceneConfig
    from diptych.data.scenes.sheet import contact_sheet
    from diptych.data.scenes.source import Scenes

    if not 1 <= options.count <= _MOST:
        raise ConfigError(f"--count {options.count}: a sheet holds 1 to {_MOST} pictures")
    if options.out.suffix.lower() != ".png":
        raise ConfigError(f"--out {options.out}: the sheet is a PNG, so its name must end in .png")
    config = SceneConfig(size=options.size, objects=options.objects, seed=options.seed)
    source = Scenes(options.split, options.count, config)
    sheet = contact_sheet([source[index] for index in range(len(source))])
    with atomic_file(options.out) as part:
        sheet.save(part, format="PNG")
        part.chmod(0o644)
    print(options.out)
    return 0
