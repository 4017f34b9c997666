"""An ablation as one self-contained page: every arm's effect on every number, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path

from markupsafe import Markup

from diptych import __version__
from diptych.core.records.environment import environment
from diptych.core.storage import write_text
from diptych.evaluation.report import TEMPLATES as SHARED
from diptych.evaluation.reporting.summary import environment_facts
from diptych.study.ablation import BASE, AblationConfig
from diptych.study.effects import effects_of
from diptych.study.findings import RunRecord
from diptych.study.page import templates


def write_ablation_page(config: AblationConfig, runs: Sequence[RunRecord], command: str, path: Path) -> None:
    """Writes the page atomically.

    Args:
        command: the line that repeats it.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    write_text(path, render(config, runs, command))


def render(config: AblationConfig, runs: Sequence[RunRecord], command: str) -> str:
    """The page."""
    found = effects_of(config, runs)
    factors = [(factor, list(arms)) for factor, arms in groupby(found.arms, key=lambda one: one.arm.factor)]
    return (
        templates()
        .get_template("ablation.html")
        .render(
            config=config,
            base=BASE,
            found=found,
            factors=factors,
            failures=[run for run in runs if run.finished is None],
            command=command,
            environment=environment_facts(environment()),
            css=Markup((SHARED / "report.css").read_text(encoding="utf-8")),
            version=__version__,
            written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        )
    )
