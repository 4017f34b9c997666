"""What a model made of the same samples at one evaluation after another, a row a sample.

A run's `pictures/<stage>-<step>.json` is a list of rows as picture_rows.py describes them; the last picture of a row is
the model's, those before it are the same at every step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.core.errors import DataError
from diptych.evaluation.reporting.picture_rows import MOST, PictureRow, picture_row

STEPS = 6
"""The most steps that are shown: the first, the last, and some evenly between."""

_NAME = re.compile(r"(?P<stage>.+)-(?P<step>\d{8,})")

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class StageProgress:
    """The rows of one stage of a run."""

    stage: str
    rows: list[PictureRow]


def read_pictures(folder: Path) -> dict[str, dict[int, Rows]]:
    """Stage -> step -> rows, oldest first, of a run's folder of pictures; {} where there is none.

    Raises:
        DataError: a file is no JSON.
    """
    found: dict[str, dict[int, Rows]] = {}
    for path in sorted(folder.glob("*.json"), key=lambda one: one.stat().st_mtime_ns):
        if (name := _NAME.fullmatch(path.stem)) is None:
            continue
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} is truncated or not JSON") from error
        found.setdefault(name["stage"], {})[int(name["step"])] = rows
    return found


def progress(pictures: dict[str, dict[int, Rows]]) -> list[StageProgress]:
    """For each stage a row a sample: what does not change, then what was made at each of some steps."""
    stages = [StageProgress(stage, _rows(steps)) for stage, steps in pictures.items()]
    return [stage for stage in stages if stage.rows]


def _rows(steps: dict[int, Rows]) -> list[PictureRow]:
    chosen = _evenly(sorted(steps))
    by_step = {step: {row["key"]: row for row in steps[step]} for step in chosen}
    rows = []
    for last in steps[chosen[-1]][:MOST]:
        known = [(step, by_step[step][last["key"]]) for step in chosen if last["key"] in by_step[step]]
        made = [{"title": f"step {step:,}", "png": row["images"][-1]["png"]} for step, row in known]
        rows.append(picture_row({"key": last["key"], "images": [*last["images"][:-1], *made]}))
    return [row for row in rows if row.pictures]


def _evenly(steps: Sequence[int]) -> list[int]:
    """At most `STEPS` of them."""
    if len(steps) <= STEPS:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (STEPS - 1))] for place in range(STEPS)]
