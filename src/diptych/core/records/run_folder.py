"""Where a run keeps what.

config.yaml         the recipe and every resolved field
environment.json    commit, versions, hardware
metrics.jsonl       one line a logged step
events/             TensorBoard
artifacts/<stage>/  what a stage made for later ones (a tokenizer)
checkpoints/<stage>-<step>/   complete state, with the model folder inside as `model/`
evaluation/<benchmark>/       results
pictures/<stage>-<step>.json  what the model made while it was trained
report.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.core.errors import CheckpointError

_CHECKPOINT = re.compile(r"[^.].*-\d{8,}")
"""<stage>-<step>. Other folders are not ours: half of a save that was killed, or a copy that somebody made."""


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; the paths in it."""

    path: Path

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether `path` is a run's folder."""
        return (path / "config.yaml").is_file()

    @property
    def begun(self) -> bool:
        """Whether the run got anywhere: an artifact, a logged step or a checkpoint is there."""
        return any(path.exists() for path in (self.path / "artifacts", self.metrics, self.checkpoints))

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    def pictures(self, stage: str, step: int) -> Path:
        """The file of what was made at a step."""
        return self.path / "pictures" / f"{stage}-{step:08d}.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def artifact(self, stage: str) -> Path:
        """The folder of what a stage made."""
        return self.path / "artifacts" / stage

    def saved(self) -> list[Path]:
        """Complete checkpoints, oldest first: a checkpoint is complete when its folder has its final name."""
        if not self.checkpoints.is_dir():
            return []
        folders = [p for p in self.checkpoints.iterdir() if p.is_dir() and _CHECKPOINT.fullmatch(p.name)]
        return sorted(folders, key=_written)

    def best_model(self) -> Path:
        """The model folder of the checkpoint that `best.json` names, else of the newest one.

        Raises:
            CheckpointError: no checkpoint was written yet.
        """
        saved = self.saved()
        best = self.path / "best.json"
        if best.is_file():
            named = self.checkpoints / str(json.loads(best.read_text(encoding="utf-8"))["checkpoint"])
            if named in saved:
                return named / "model"
        if not saved:
            raise CheckpointError(f"{self.path} has no complete checkpoint yet")
        return saved[-1] / "model"

    def lines(self) -> list[dict[str, Any]]:
        """The logged metrics; a last line that was cut off is left out."""
        if not self.metrics.is_file():
            return []
        lines = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines


def _written(checkpoint: Path) -> int:
    """When a checkpoint was written; a damaged one is in the list too, for its reader to refuse by name."""
    state = checkpoint / "state.json"
    return (state if state.is_file() else checkpoint).stat().st_mtime_ns
