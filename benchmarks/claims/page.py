"""Writes the numbers of a claim's result into its page, between two markers; the rest of the page is prose.

python benchmarks/claims/page.py siglip_small_batch
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _claim import HERE, names, shown
from _verdict import standard_error

from diptych.core.storage import write_text

ROOT = HERE.parents[1]
BEGIN, END = "<!-- numbers: from the result file, by benchmarks/claims/page.py -->", "<!-- end of the numbers -->"


def main() -> None:
    for name in sys.argv[1:] or names():
        path = page_of(name)
        write_text(path, filled(path.read_text(encoding="utf-8"), result_of(name)))
        print(f"wrote docs/claims/{path.name}")


def page_of(name: str) -> Path:
    """The claim's page."""
    return ROOT / "docs" / "claims" / f"{name}.md"


def result_of(name: str) -> dict[str, Any]:
    """The claim's committed result."""
    found: dict[str, Any] = json.loads((ROOT / shown(name)).read_text(encoding="utf-8"))
    return found


def filled(text: str, result: dict[str, Any]) -> str:
    """The page with the block between its markers made anew; one without markers is a programmer's mistake."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, "a page has both markers"
    return f"{before}{BEGIN}\n{block(result)}{END}{after}"


def block(result: dict[str, Any]) -> str:
    """Verdict, comparisons, arms and origin."""
    parts = [
        f"**The claim {result['verdict']}**: {_reasons(result['comparisons'])}.",
        _comparisons(result["comparisons"]),
        _arms(result["arms"]),
        _origin(result),
        f"```bash\n{result['command']}\n```",
    ]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _reasons(comparisons: Sequence[dict[str, Any]]) -> str:
    primary = [one for one in comparisons if one["primary"]]
    return "; ".join(
        f"{one['name']}, {_signed(one, one['mean'])} ± {_amount(one, one['standard_error'])}, p = {one['p']:.2g}, "
        f"{'above' if one['holds'] else 'below'} the threshold"
        for one in primary
    )


def _comparisons(comparisons: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            one["name"] + ("" if one["primary"] else " (context)"),
            _measured(one),
            _asked(one),
            _signed(one, one["mean"]),
            _amount(one, one["standard_error"]),
            "-" if one["t"] is None else f"{one['t']:.2f}",
            f"{one['p']:.2g}",
            "yes" if one["holds"] else "no",
            ", ".join(_signed(one, gain) for gain in one["gains"]),
        ]
        for one in comparisons
    ]
    head = ["comparison", "metric, their mean", "gain", "mean", "standard error", "t", "p", "passes", "per seed"]
    return _table(head, rows)


def _measured(one: dict[str, Any]) -> str:
    ours, theirs = (", ".join(f"`{name}`" for name in one.get(key, ())) for key in ("metrics", "against"))
    return f"{ours} against {theirs}" if theirs else ours


def _asked(one: dict[str, Any]) -> str:
    """The gain as a formula of the two arms."""
    control = f"`{one['control']}`" if one["factor"] == 1 else f"{one['factor']:g} x `{one['control']}`"
    first, second = (control, f"`{one['treated']}`") if one["lower"] else (f"`{one['treated']}`", control)
    return f"{first} - {second}" + (f" + {one['margin']:g}" if one["margin"] else "")


def _signed(one: dict[str, Any], value: float) -> str:
    return ("+" if value >= 0 else "-") + _amount(one, abs(value))


def _amount(one: dict[str, Any], value: float) -> str:
    """Shares in percentage points, everything else as it is."""
    digits = _digits(one["metrics"][0])
    return f"{100 * value:.1f} points" if digits is None else f"{value:.{digits}f}"


def _digits(metric: str) -> int | None:
    """After the point, of what is no share; None of a share."""
    if metric.startswith("training/") or metric.endswith("_nats"):
        return 3
    return 1 if metric.startswith(("seconds", "samples")) else None


def _arms(arms: dict[str, Any]) -> str:
    metrics = list(dict.fromkeys(name for arm in arms.values() for one in arm["values"] for name in one))
    head = ["arm", "parameters", *(f"`{name}`" for name in metrics)]
    rows = [
        [
            f"`{name}`",
            f"{arm['parameters']:,}",
            *(_mean([one.get(metric) for one in arm["values"]], metric) for metric in metrics),
        ]
        for name, arm in arms.items()
    ]
    return _table(head, rows)


def _mean(values: Sequence[float | None], metric: str) -> str:
    """Mean over the seeds with its standard error; nothing where the arm was not measured so."""
    found = [value for value in values if value is not None]
    if not found:
        return ""
    mean, error, digits = statistics.fmean(found), standard_error(found), _digits(metric)
    if digits is None:
        return f"{100 * mean:.1f} ± {100 * error:.1f} %"
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _origin(result: dict[str, Any]) -> str:
    definition, where = result["definition"], result["environment"]
    return (
        f"{len(result['seeds'])} seeds; definition `{definition['file']}` of commit `{definition['commit'][:10]}` "
        f"({definition['committed'][:16].replace('T', ' ')}), result of {result['date']}; PyTorch "
        f"{where['packages']['torch']}, {where['processor']}, one thread a run. Every seed's numbers and the whole "
        f"configuration are in the result file."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
