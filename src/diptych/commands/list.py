"""Print the models, recipes, benchmarks and sources there are, or the matrix of which model meets which benchmark."""

from __future__ import annotations

import argparse
import json

from diptych.capabilities.verbs import missing
from diptych.core import discovery

KINDS = ("models", "recipes", "benchmarks", "sources", "matrix")


def main(arguments: list[str]) -> int:
    """`diptych list KIND [--json]`: answers from file names and literals, without importing torch."""
    parser = argparse.ArgumentParser(prog="diptych list", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    rows = matrix() if options.kind == "matrix" else listing(options.kind)
    print(json.dumps(rows, indent=2) if options.json else table(rows))
    return 0


def listing(kind: str) -> list[dict[str, str]]:
    """Name and title of everything in a folder; models with their verbs, benchmarks with what they require."""
    folders = {
        "models": discovery.models,
        "recipes": discovery.recipes,
        "benchmarks": discovery.benchmarks,
        "sources": discovery.sources,
    }
    literals = {"models": ("verbs", "VERBS"), "benchmarks": ("requires", "REQUIRES")}
    rows = []
    for found in folders[kind]().values():
        row = {"name": found.name, "what": found.title}
        if kind in literals:
            column, literal = literals[kind]
            row[column] = " ".join(found.literal(literal, ()))
        rows.append(row)
    return rows


def matrix() -> list[dict[str, str]]:
    """For every model and benchmark: `yes`, or the verbs that are missing."""
    rows = []
    benchmarks = discovery.benchmarks().values()
    for model in discovery.models().values():
        if not (verbs := model.literal("VERBS", ())):
            continue
        row = {"model": model.name}
        for benchmark in benchmarks:
            lacking = missing(
                verbs,
                benchmark.literal("REQUIRES", ()),
                reads_text=model.literal("READS_TEXT", True),
                sentences=benchmark.literal("SENTENCES", False),
            )
            row[benchmark.name] = f"no {', '.join(lacking)}" if lacking else "yes"
        rows.append(row)
    return rows


def table(rows: list[dict[str, str]]) -> str:
    """Columns of equal width, as plain text."""
    if not rows:
        return "nothing yet"
    columns = list(rows[0])
    widths = {c: max(len(c), *(len(row.get(c, "")) for row in rows)) for c in columns}
    lines = [[c.upper() for c in columns], *([row.get(c, "") for c in columns] for row in rows)]
    return "\n".join(
        "  ".join(f"{cell:<{widths[c]}}" for c, cell in zip(columns, line, strict=True)).rstrip() for line in lines
    )
