"""What a machine of a cluster does for a study: sees that it has its folders, and runs a run in a process of its own.

Here a machine begins, so nothing that takes seconds to import is imported before it is known to be wanted.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 0.2
"""Seconds between two looks at a process: a cancelled task hears of it when it wakes."""


@dataclass(frozen=True)
class Shared:
    """What every machine must see at the same path.

    Attributes:
        start: the folder that the study was begun in, which relative paths of data are from.
        mark: a file of the study's folder.
        words: what stands in it, said by nobody else: a folder of the same name may lie on another disk.
    """

    start: str
    mark: str
    words: str

    def missing(self) -> str:
        """What this machine does not see of it; "" where it sees all."""
        if not Path(self.start).is_dir():
            return f"the working folder {self.start}"
        mark = Path(self.mark)
        if not mark.is_file() or mark.read_text(encoding="utf-8") != self.words:
            return f"the study's folder {mark.parent}"
        return ""


def run_here(folder: str, shared: Shared) -> tuple[int, str]:
    """Does a run; cancelled, it lets the run save first.

    Returns:
        the exit code of its process, and what of the shared folders is missing here, where it was not begun.
    """
    if missing := shared.missing():
        return 1, missing
    from diptych.study.queue import begin

    os.chdir(shared.start)
    process = begin(Path(folder))
    try:
        while process.poll() is None:
            time.sleep(_PATIENCE)
    except BaseException:  # also the cancelled task's interrupt
        process.terminate()  # Ray's processes, and what they begin, do not hear SIGINT
        process.wait()
        raise
    return process.returncode, ""
