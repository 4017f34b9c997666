"""What each arm of an ablation does: its difference from the base on every number, paired over seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from diptych.core.config import to_plain
from diptych.core.records.environment import environment
from diptych.core.storage import write_text
from diptych.study.ablation import BASE, AblationConfig, Arm
from diptych.study.findings import Cost, Row, RunRecord, costs, table
from diptych.study.significance import Difference, differences


@dataclass(frozen=True)
class ArmEffects:
    """An arm beside the base.

    Attributes:
        effects: by the title of a number; absent where one of the two has none, or too few seeds are finished.
        cost: None while no run of it is finished.
    """

    arm: Arm
    effects: dict[str, Difference]
    cost: Cost | None


@dataclass(frozen=True)
class Effects:
    """What an ablation came to.

    Attributes:
        rows: every number, by its title, in the order of the abilities.
        base: the cost of the base.
    """

    rows: dict[str, Row]
    arms: list[ArmEffects]
    base: Cost | None


def effects_of(config: AblationConfig, runs: Sequence[RunRecord]) -> Effects:
    """Holm's correction is over all arms and numbers of the ablation."""
    rows, spent = table(runs), costs(runs)
    named = {title_of(row): row for row in rows}
    found = differences(rows, runs, base=BASE)
    arms = [
        ArmEffects(arm, {title_of(one.row): one for one in found if one.second == arm.column}, spent.get(arm.column))
        for arm in config.arms
    ]
    return Effects(named, arms, spent.get(BASE))


def title_of(row: Row) -> str:
    """Ability and number."""
    return f"{row.ability.title}: {row.title}"


def write_effects(config: AblationConfig, runs: Sequence[RunRecord], path: Path) -> None:
    """Writes numbers, effects and costs as JSON, atomically.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    found = effects_of(config, runs)
    plain = {
        "ablation": to_plain(config),
        "values": {
            title: {column: asdict(cell) for column, cell in row.cells.items()} for title, row in found.rows.items()
        },
        "effects": {
            one.arm.column: {
                title: {name: getattr(effect, name) for name in ("value", "low", "high", "p", "corrected")}
                for title, effect in one.effects.items()
            }
            for one in found.arms
        },
        "costs": {column: asdict(cost) for column, cost in costs(runs).items()},
        "missing": {f"{run.recipe}-{run.seed}": run.why for run in runs if run.finished is None},
        "environment": environment(),
    }  # fmt: skip
    write_text(path, json.dumps(plain, indent=1) + "\n")
