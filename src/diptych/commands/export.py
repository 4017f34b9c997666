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

    from importlib import import_module

    from diptych.capabilities.load import load
    from diptych.core.errors import ConfigError
    from diptych.core.storage import atomic_folder

    if options.out.exists():
        raise ConfigError(f"{options.out} exists already: choose another folder")
    predictor = load(options.reference)
    module = import_module(type(predictor).__module__)
    if not hasattr(module, "export_to"):
        raise ConfigError(f"{predictor.name} has no Hugging Face format: nothing there expresses its architecture")
    with atomic_folder(options.out) as folder:
        module.export_to(predictor, folder)
    print(options.out)
    return 0
