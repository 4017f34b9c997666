"""What a study measured of the routes, as lines beside the advice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.core.errors import DataError
from diptych.guide.situation import Need

_BENCHMARKS = {
    Need.RETRIEVAL: "retrieval",
    Need.LABELS: "zero_shot_classification",
    Need.MATCHING: "matching",
    Need.CAPTIONS: "captioning",
    Need.ANSWERS: "vqa",
    Need.PICTURES: "prompt_agreement",
}
_COSTS = ("flops", "seconds", "earlier_flops", "earlier_seconds")
OWN = Path(__file__).parent / "study.json"
"""What is committed of the study of benchmarks/study.py."""


@dataclass(frozen=True)
class Evidence:
    """The rows of a study; none where none is named."""

    rows: tuple[dict[str, Any], ...] = ()
    costs: dict[str, Any] = field(default_factory=dict)

    def of(self, recipe: str, needs: Iterable[Need]) -> list[str]:
        """A line for each number of a recipe that says something of the needs, and one for what it cost."""
        wanted = {_BENCHMARKS[need] for need in needs}
        lines = [
            _line(row, row["cells"][recipe]["metric"])
            for row in self.rows
            if row["benchmark"] in wanted and row["cells"].get(recipe, {}).get("metric")
        ]
        if lines and recipe in self.costs:
            cost = self.costs[recipe]
            seconds = cost["seconds"] + cost["earlier_seconds"]
            lines.append(
                f"for {(cost['flops'] + cost['earlier_flops']) / 1e12:.3g} TFLOPs, {seconds:.0f} s of training"
            )
        return lines


def _line(row: dict[str, Any], metric: dict[str, Any]) -> str:
    share = metric["unit"] == "share"

    def said(number: float) -> str:
        return f"{100 * number:.1f} %" if share else f"{number:.3g}"

    interval = f" [{said(metric['low'])}, {said(metric['high'])}]" if metric["low"] is not None else ""
    chance = f", chance {said(row['chance'])}" if row["chance"] is not None else ""
    return f"{row['ability']}, {row['title']}: {said(metric['value'])}{interval}{chance}"


def extract(study: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a study.json to be shown beside advice: the rows that say something of needs, and costs."""
    names = set(_BENCHMARKS.values())
    rows = [
        {
            **{name: row[name] for name in ("ability", "benchmark", "title", "chance")},
            "cells": {recipe: {"metric": cell["metric"]} for recipe, cell in row["cells"].items() if cell["metric"]},
        }
        for row in study["rows"]
        if row["benchmark"] in names
    ]
    costs = {recipe: {name: cost[name] for name in _COSTS} for recipe, cost in study["costs"].items()}
    return {"command": study["command"], "rows": rows, "costs": costs}


def read_evidence(path: Path | None) -> Evidence:
    """The numbers of a study.json; of the committed study where none is named.

    Raises:
        DataError: the file is not there, or no study's.
    """
    if path is None:
        return read_evidence(OWN) if OWN.is_file() else Evidence()
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Evidence(tuple(plain["rows"]), plain["costs"])
    except OSError as error:
        raise DataError(f"no study at {path}: `diptych study` writes study.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no study.json") from error
