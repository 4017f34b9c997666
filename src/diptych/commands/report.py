"""Write one self-contained HTML page about one run, or about several side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Arguments:
    """What to report."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """The folders of the runs, one to six."""
    out: Path | None = None
    """The file to write; `report.html` in the run's folder when there is only one."""


def main(arguments: list[str]) -> int:
    """`diptych report RUN [RUN ...] [--out report.html]`: prints the path of the page."""
    options = tyro.cli(Arguments, args=arguments, prog="diptych report", description=__doc__)

    from diptych.evaluation.report import write_report

    print(write_report(options.runs, options.out))
    return 0
