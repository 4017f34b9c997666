"""`metrics.jsonl`: one line a logged step, the same lines after a resumption as without one."""

from __future__ import annotations

import json

from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import storage_errors, write_text
from diptych.training.callbacks.base import Quiet, StepLine


class MetricsFile(Quiet):
    """Appends lines; on start it drops those of steps that will be done again."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def start(self, stage: str, step: int, steps: int) -> None:
        kept = [line for line in self._run.lines() if line["stage"] != stage or line["step"] <= step]
        write_text(self._run.metrics, "".join(json.dumps(line) + "\n" for line in kept))

    def log(self, line: StepLine) -> None:
        with storage_errors(self._run.metrics), self._run.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line.plain()) + "\n")
