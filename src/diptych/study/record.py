"""A study's table as a file that programs read: `study.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diptych.core.config import to_plain
from diptych.core.records.environment import environment
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import write_text
from diptych.study.config import StudyConfig
from diptych.study.findings import RunRecord, costs, table
from diptych.study.significance import differences


def write_record(config: StudyConfig, runs: Sequence[RunRecord], path: Path) -> None:
    """Writes it atomically.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    write_text(path, json.dumps(record(config, runs), indent=1) + "\n")


def record(config: StudyConfig, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Configuration, rows, costs, tested differences, and what is missing, as plain values."""
    rows = table(runs)
    return {
        "study": to_plain(config),
        "command": config.command(),
        "rows": [
            {
                "ability": row.ability.title,
                "benchmark": row.ability.benchmark,
                "metric": row.metric,
                "title": row.title,
                "chance": row.chance,
                "cells": {recipe: asdict(cell) for recipe, cell in row.cells.items()},
            }
            for row in rows
        ],
        "costs": {recipe: asdict(cost) for recipe, cost in costs(runs).items()},
        "differences": [
            {
                "benchmark": one.row.ability.benchmark,
                "metric": one.row.metric,
                "first": one.first,
                "second": one.second,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "p": one.p,
                "corrected": one.corrected,
            }
            for one in differences(rows, runs)
        ],
        "missing": {f"{run.recipe}-{run.seed}": run.why for run in runs if run.finished is None},
        "commits": sorted({commit for run in runs if run.finished and (commit := _commit(run))}),
        "environment": environment(),
    }


def _commit(run: RunRecord) -> str:
    """That a run was trained at."""
    file = RunFolder(run.folder).environment
    return str(json.loads(file.read_text(encoding="utf-8"))["commit"]) if file.is_file() else ""
