"""Write a contact sheet of the built-in scenes with their captions, to look at."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """`diptych scenes --out sheet.png`."""
    parser = argparse.ArgumentParser(prog="diptych scenes", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("scenes.png"))
    parser.add_argument("--count", type=int, default=12, help="pictures on the sheet")
    parser.add_argument("--split", default="train")
    parser.add_argument("--objects", type=int, default=3, help="at most so many objects")
    parser.add_argument("--size", type=int, default=64, help="of a picture in pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    from diptych.core.storage import atomic_file
    from diptych.data.scenes.draw import SceneConfig
    from diptych.data.scenes.sheet import contact_sheet
    from diptych.data.scenes.source import Scenes

    config = SceneConfig(size=options.size, objects=options.objects, seed=options.seed)
    source = Scenes(options.split, max(options.count, 1), config)
    sheet = contact_sheet([source[index] for index in range(len(source))])
    with atomic_file(options.out) as part:
        sheet.save(part, format="PNG")
        part.chmod(0o644)
    print(options.out)
    return 0
