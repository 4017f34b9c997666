"""Write a trained model as a Hugging Face folder with a model card."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """`diptych export REF OUT`: REF as for `diptych.load`; OUT must not exist yet."""
    parser = argparse.ArgumentParser(prog="diptych export", description=__doc__)
    parser.add_argument("reference", help="a run folder, a model folder, a public folder or a hub id")
    parser.add_argument("out", type=Path, help="the folder to write; must not exist yet")
    options = parser.parse_args(arguments)

    from diptych.capabilities.export import export

    print(export(options.reference, options.out))
    return 0
