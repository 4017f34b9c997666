"""Writes the numbers of plan.json, plan_pictures.json and known_runs.json into docs/plan.md, between two markers.

python benchmarks/plan_page.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.core.storage import write_text
from plan import BATCHES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "plan.md"
RESULTS = ROOT / "benchmarks" / "results"
MEASURED = ("plan.json", "plan_pictures.json")
BEGIN, END = "<!-- numbers: from the result files, by benchmarks/plan_page.py -->", "<!-- end of the numbers -->"


def main() -> None:
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), read(*MEASURED), read("known_runs.json")))
    print(f"wrote docs/{PAGE.name}")


def read(*names: str) -> list[dict[str, Any]]:
    """Of files, one after another."""
    return [json.loads((RESULTS / name).read_text(encoding="utf-8")) for name in names]


def filled(text: str, measured: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]) -> str:
    """The page with the block between its markers made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, "the page has both markers"
    parts = [compared(measured), missing(measured), origin(measured), public(known), origin(known)]
    return "\n\n".join([f"{before}{BEGIN}", *filter(None, parts), f"{END}{after}"])


def compared(results: Sequence[dict[str, Any]]) -> str:
    """Memory and time, planned and measured."""
    head = ["recipe", "batch", "planned", "measured", "off", "planned", "measured", "off", "within the limits"]
    lines = [
        [
            f"`{row['recipe']}`",
            f"{row['batch']:,}",
            f"{row['MB planned']:,.0f} MB",
            f"{row['MB']:,.0f} MB",
            f"{row['memory off']:+.0%}",
            f"{row['s planned']:.2f} s",
            f"{row['s']:.2f} s",
            f"{row['time off']:+.0%}",
            "yes" if row["memory holds"] and row["time holds"] else "no",
        ]
        for result in results
        for row in result["rows"]
    ]
    return _table(head, lines)


def missing(results: Sequence[dict[str, Any]]) -> str:
    """What the benchmark lists and no result has."""
    there = {row["recipe"] for result in results for row in result["rows"]}
    left = [f"`{name}`" for name in BATCHES if name not in there]
    return f"Not measured yet: {', '.join(left)}." if left else ""


def public(results: Sequence[dict[str, Any]]) -> str:
    """A100 hours of public runs."""
    head = ["open_clip on LAION-400M", "parameters", "GFLOP a pair", "planned A100 hours", "between", "reported",
            "of the peak"]  # fmt: skip
    lines = [
        [
            row["model"],
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['GFLOP a pair']:.0f}",
            f"{row['hours']:,.0f}",
            f"{row['low']:,.0f} and {row['high']:,.0f}",
            f"{row['reported']:,.0f}",
            f"{row['share of the peak']:.0%}",
        ]
        for result in results
        for row in result["rows"]
    ]
    return _table(head, lines)


def origin(results: Sequence[dict[str, Any]]) -> str:
    """What made the numbers."""
    return " ".join(
        f"`{result['command']}`, commit {result['environment']['commit'][:12]}, {result['environment']['processor']}, "
        f"load {result['load_after'][1]:g}."
        for result in results
    )


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
