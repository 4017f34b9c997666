"""Writes the numbers of few_shot.json into docs/adapters.md, between two markers; the rest of the page is prose.

python benchmarks/few_shot_page.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.core.storage import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "adapters.md"
RESULT = ROOT / "benchmarks" / "results" / "few_shot.json"
BEGIN, END = "<!-- numbers: from the result file, by benchmarks/few_shot_page.py -->", "<!-- end of the numbers -->"


def main() -> None:
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), json.loads(RESULT.read_text(encoding="utf-8"))))
    print(f"wrote docs/{PAGE.name}")


def filled(text: str, result: dict[str, Any]) -> str:
    """The page with the block between its markers made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, "the page has both markers"
    return f"{before}{BEGIN}\n\n{curves(result)}\n\n{elsewhere(result)}\n\n{origin(result)}\n\n{END}{after}"


def curves(result: dict[str, Any]) -> str:
    """Top 1 by method and shots."""
    rows = result["rows"]
    shots = sorted({row["shots"] for row in rows})
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = {row["shots"]: row for row in rows if row["method"] == method}
        means = [_with_interval(of_method[count]) for count in shots]
        rate = result["selection"]["methods"][method]["rate"]
        lines.append([f"`{method}`", f"{of_method[shots[0]]['trained']:,}", f"{rate:g}", *means])
    head = ["method", "trained", "learning rate", *(f"{count} shot{'s' if count > 1 else ''}" for count in shots)]
    said = (
        f"Zero-shot {result['zero_shot']:.1%}, chance {result['chance']:.1%}, {rows[0]['frozen']:,} parameters frozen."
    )
    return f"{said}\n\n{table(head, lines)}"


def _with_interval(row: dict[str, Any]) -> str:
    return f"{row['mean']:.1%} ± {row['high'] - row['mean']:.1%}"


def elsewhere(result: dict[str, Any]) -> str:
    """What changed on other sets, in points, paired over pictures."""
    rows = result["forgetting"]
    columns = list(dict.fromkeys((row["set"], row["metric"]) for row in rows))
    bases = {(row["set"], row["metric"]): row["base"] for row in rows}
    head = ["method", *(f"{name}, {metric.replace('_', ' ')}" for name, metric in columns)]
    lines = [["base", *(f"{bases[column]:.1%}" for column in columns)]]
    for method in dict.fromkeys(row["method"] for row in rows):
        found = {(row["set"], row["metric"]): row for row in rows if row["method"] == method}
        lines.append([f"`{method}`", *(_change(found.get(column)) for column in columns)])
    return table(head, lines)


def _change(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{100 * row['change']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"


def origin(result: dict[str, Any]) -> str:
    """How to repeat it."""
    config, selection = result["config"], result["selection"]
    return (
        f"Base `{config['base']}`; {config['data']}, {len(config['classes'])} classes, {config['test_pictures']} test "
        f"pictures; {config['steps']} steps of at most {config['batch_size']} pictures for every method; intervals are "
        f"95 % t intervals over {len(config['seeds'])} seeds. Learning rates: the best mean of "
        f"{len(selection['seeds'])} other seeds at {selection['shots']} shots, on {selection['held_out']} training "
        f"pictures that no shot is drawn from. Commit {result['environment']['commit'][:12]}, "
        f"{result['seconds'] / 60:.0f} minutes on one thread.\n\n```bash\n{result['command']}\n```"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main()
