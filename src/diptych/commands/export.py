"""Write a trained model as a Hugging Face folder with a model card, and put it on the hub."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """`diptych export REF OUT --license apache-2.0 --push ORG/NAME`: REF as for `diptych.load`; OUT must not exist."""
    parser = argparse.ArgumentParser(prog="diptych export", description=__doc__)
    parser.add_argument("reference", help="a run folder, a model folder, a public folder or a hub id")
    parser.add_argument("out", type=Path, help="the folder to write; must not exist yet")
    parser.add_argument("--license", default="", help="for the card, by the hub's name: apache-2.0, cc-by-4.0, other")
    parser.add_argument("--push", metavar="REPO", help="upload it to the hub, to a private repository unless --public")
    parser.add_argument("--public", action="store_true", help="a repository that --push makes is for everyone to see")
    options = parser.parse_args(arguments)

    from diptych.capabilities.export import export, push
    from diptych.core.errors import ConfigError

    if options.push and not options.license:
        raise ConfigError("--push shares the model: say under which licence others may use it, --license apache-2.0")
    if options.public and not options.push:
        raise ConfigError("--public says who sees what --push uploads: give --push ORG/NAME")
    print(export(options.reference, options.out, options.license))
    if options.push:
        print(push(options.out, options.push, public=options.public))
    return 0
