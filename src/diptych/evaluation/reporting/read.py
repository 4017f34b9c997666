"""What a run left on disk, read once for the whole report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from diptych.core.errors import DataError
from diptych.core.records.results import Result, read_result
from diptych.core.records.run_folder import RunFolder
from diptych.evaluation.reporting.progress_pictures import Rows, read_pictures


@dataclass(frozen=True)
class Evaluated:
    """A result and the folder it lies in, with its per-sample lines."""

    result: Result
    folder: Path


@dataclass(frozen=True)
class RunRecord:
    """A run as the report sees it.

    Attributes:
        label: a short name, different for every run of one report.
        color: its position among the runs: the colour of its lines and dots.
        config: the resolved configuration; {} where none was written.
        lines: the logged steps, oldest first.
        pictures: stage -> step -> rows of what was made then; {} where nothing was.
        data, costs: what the data lost on its way, and what the run cost; {} where not written.
    """

    label: str
    color: int
    folder: Path
    config: dict[str, Any]
    config_text: str
    environment: dict[str, Any]
    lines: list[dict[str, Any]]
    pictures: dict[str, dict[int, Rows]]
    data: dict[str, Any]
    costs: dict[str, Any]
    evaluated: tuple[Evaluated, ...]


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Reads every run.

    Raises:
        DataError: a folder is not there, or holds neither a run nor an evaluation.
    """
    names = labels(folders)
    return [read_run(folder, names[i], i) for i, folder in enumerate(folders)]


def read_run(folder: Path, label: str, color: int) -> RunRecord:
    """Reads one run; what it has not written yet is empty."""
    run = RunFolder(folder)
    evaluated = tuple(Evaluated(read_result(p.parent), p.parent) for p in sorted(run.evaluation.rglob("result.json")))
    if not RunFolder.is_one(folder) and not evaluated:
        problem = "is not a folder" if not folder.is_dir() else "holds no config.yaml and no evaluation"
        raise DataError(f"{folder} {problem}: give the folder of a run, as `diptych train` prints it")
    text = run.config.read_text(encoding="utf-8") if run.config.is_file() else ""
    return RunRecord(
        label=label,
        color=color,
        folder=folder,
        config=_mapping(yaml.safe_load(text) if text else None),
        config_text=text,
        environment=_json(run.environment) or (evaluated[0].result.environment if evaluated else {}),
        lines=run.lines(),
        pictures=read_pictures(folder / "pictures"),
        data=_json(folder / "data.json"),
        costs=_json(folder / "costs.json"),
        evaluated=evaluated,
    )


def labels(folders: Sequence[Path]) -> list[str]:
    """The shortest endings of the paths that tell them apart ("clip_tiny"; "a/clip" and "b/clip")."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max((len(p) for p in parts), default=1) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise DataError(f"the same run is named twice: {', '.join(map(str, folders))}")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DataError(f"{path} is truncated or not JSON") from error


def _mapping(plain: Any) -> dict[str, Any]:
    return plain if isinstance(plain, dict) else {}
