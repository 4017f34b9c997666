"""The committed study: what `make demo` runs, with five seeds.

python benchmarks/study.py --out runs/study               # runs what is not finished yet
python benchmarks/study.py --out runs/study --publish     # writes what is committed of it, from what is there
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.commands._engine import engine_of
from diptych.commands.study import study
from diptych.evaluation.reporting.format import MISSING
from diptych.guide.evidence import OWN, extract
from diptych.guide.routes import family_of
from diptych.study.figure import write_picture
from diptych.study.small_study import small_study

ROOT = Path(__file__).parents[1]
RESULT, PICTURE, PAGE = ROOT / "benchmarks/results/study.json", ROOT / "docs/images/study.png", ROOT / "docs/study.md"
SEEDS = 5
_BEGIN, _END = "<!-- table: by benchmarks/study.py -->\n", "<!-- end of the table -->"
_TABLE = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--recipes", nargs="*", help="only these, so that several machines share the work")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    config = small_study(options.seeds)
    if options.recipes:
        kept = tuple(one for one in config.options if one.partition(".")[0] in options.recipes)
        config = replace(config, recipes=tuple(options.recipes), options=kept)
    engine = None if options.publish else engine_of(options.out, config.device, config.threads, options.processes)
    code = study(config, options.out, engine)
    if options.publish:
        publish(json.loads((options.out / "study.json").read_text(encoding="utf-8")))
    return code


def publish(record: dict[str, Any]) -> None:
    """Result, picture, table of the page, and what `diptych choose` shows."""
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    OWN.write_text(json.dumps(extract(record), indent=1) + "\n", encoding="utf-8")
    write_picture(record, PICTURE)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), record), encoding="utf-8")


def filled(page: str, record: dict[str, Any]) -> str:
    """The page with the record's numbers in its table; with a section for it where there is none yet."""
    if _BEGIN not in page:
        page = f"{page.rstrip()}\n\n## What the small study came to\n\n{_BEGIN}{_END}\n"
    return _TABLE.sub(lambda _: _BEGIN + table(record) + _END, page)


def table(record: dict[str, Any]) -> str:
    """Markdown: abilities by families, with intervals, and the costs."""
    recipes = record["study"]["recipes"]
    lines = [
        "| | " + " | ".join(f"{family_of(one)}, `{one}`" for one in recipes) + " | chance |",
        "| --- |" + " --- |" * (len(recipes) + 1),
    ]
    for row in record["rows"]:
        metrics = [row["cells"][recipe]["metric"] for recipe in recipes]
        unit = next(metric["unit"] for metric in metrics if metric)
        cells = [_cell(metric) for metric in metrics] + [_said(row["chance"], unit)]
        lines.append(f"| {row['ability']}: {row['title']} | " + " | ".join(cells) + " |")
    for title, key, scale in (("TFLOPs", "flops", 1e12), ("seconds", "seconds", 1.0)):
        costs = [record["costs"].get(recipe) for recipe in recipes]
        cells = [f"{one[key] / scale:.3g} + {one[f'earlier_{key}'] / scale:.3g}" if one else MISSING for one in costs]
        lines.append(f"| training, {title} + before | " + " | ".join(cells) + " | |")
    return "\n".join([*lines, ""])


def _cell(metric: dict[str, Any] | None) -> str:
    if metric is None:
        return MISSING
    interval = "" if metric["low"] is None else f" [{_bare(metric['low'], metric)}, {_bare(metric['high'], metric)}]"
    return _said(metric["value"], metric["unit"]) + interval


def _said(value: float | None, unit: str) -> str:
    if value is None:
        return MISSING
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.2f}"


def _bare(value: float, metric: dict[str, Any]) -> str:
    return f"{100 * value:.1f}" if metric["unit"] == "share" else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
