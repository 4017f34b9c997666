"""Train CLIP and SigLIP on the built-in scenes, evaluate both, and write one report. Minutes, offline."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

RECIPES = ("clip_tiny", "siglip_tiny")
BENCHMARKS = ("retrieval", "zero_shot_classification", "scene_negatives", "scene_pairs")


def main(arguments: list[str]) -> int:
    """`diptych demo [--out FOLDER]`: goes on where an earlier demo in the same folder stopped."""
    parser = argparse.ArgumentParser(prog="diptych demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where the runs and the report go")
    parser.add_argument("--steps", type=int, default=0, help="train for so many steps instead of the recipes' own")
    options = parser.parse_args(arguments)

    from dataclasses import replace

    from diptych.capabilities.load import load
    from diptych.core.records.run_folder import RunFolder
    from diptych.evaluation.report import write_report
    from diptych.evaluation.runner import evaluate
    from diptych.training.configured import recipe
    from diptych.training.fit import fit
    from diptych.training.run import Budget

    started = time.perf_counter()
    folders = []
    for name in RECIPES:
        run = recipe(name)
        if options.steps:
            run = replace(run, budget=Budget(steps=options.steps))
        folder = options.out / name
        place = fit(run, folder, resume=RunFolder.is_one(folder))
        evaluate(load(place.path), BENCHMARKS, folder=place.evaluation, limit=400)
        folders.append(place.path)
    report = options.out / "report.html"
    write_report(folders, report)
    print(f"{time.perf_counter() - started:.0f} seconds")
    print(report.resolve())
    return 0
