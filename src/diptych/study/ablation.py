"""An ablation: one recipe, a base, and arms that change one thing of it each; runs paired over seeds.

Arms are a JSON file:

    {"recipe": "llava_tiny", "data": "scenes?objects=2", "base": {"image.size": 48},
     "factors": {"resolution": {"32 pixels": {"image.size": 32}}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diptych.core.errors import ConfigError, unknown_name
from diptych.study.config import SCENES, StudyBudget, StudyRun, reference_of
from diptych.training.configured import overridden, recipe

BASE = "base"
MM1 = Path(__file__).with_name("mm1.json")
_PARTS = ("recipe", "data", "base", "factors", "note")


@dataclass(frozen=True)
class Arm:
    """One change of the base.

    Attributes:
        factor: what is varied ("resolution").
        name: how ("32 pixels").
        options: fields of the recipe, as on the command line, in place of the base's.
    """

    factor: str
    name: str
    options: tuple[str, ...]

    @property
    def column(self) -> str:
        """What tables call it."""
        return f"{self.factor}: {self.name}"


@dataclass(frozen=True)
class AblationConfig:
    """A base and its arms.

    Attributes:
        base: fields of the recipe that all share, but for what an arm changes.
        seeds: how many of each; the same seed sees the same data in the same order in every arm.
        held_out: a file with the keys of what is evaluated on; "" where the data have a test split of their own.
    """

    recipe: str
    data: str
    base: tuple[str, ...]
    arms: tuple[Arm, ...]
    budget: StudyBudget
    seeds: int = 5
    limit: int = 400
    threads: int = 1
    device: str = "cpu"
    held_out: str = ""

    def __post_init__(self) -> None:
        columns = [arm.column for arm in self.arms]
        if not columns or len(set(columns)) < len(columns):
            raise ConfigError("an ablation has at least one arm, and no two of one name")
        if self.seeds < 2 or self.limit < 2:
            raise ConfigError(
                f"{self.seeds} seeds and evaluations of {self.limit} samples are too few for effects with intervals: "
                f"give 2 seeds and 2 samples at least"
            )

    def columns(self) -> dict[str, tuple[str, ...]]:
        """The base first: what each is called, and its options."""
        return {BASE: self.base, **{arm.column: (*self.base, *arm.options) for arm in self.arms}}

    def runs(self) -> list[StudyRun]:
        """Every run: seed by seed."""
        data = reference_of(self.data, self.held_out)
        return [
            StudyRun(self.recipe, seed, data, self.budget, options, self.threads, self.device, self.limit, column)
            for seed in range(self.seeds)
            for column, options in self.columns().items()
        ]

    def with_base(self, changes: Sequence[str]) -> AblationConfig:
        """With fields of the base changed, "image.size=32" each; those of arms stay in their place.

        Raises:
            ConfigError: not of that form.
        """
        found: list[str] = []
        for change in changes:
            field, equals, value = change.partition("=")
            if not (field and equals):
                raise ConfigError(f"--set takes FIELD=VALUE; got '{change}'")
            found += [f"--{field}", value]
        return replace(self, base=(*self.base, *found))

    def of_factors(self, factors: Sequence[str]) -> AblationConfig:
        """With the arms of these factors alone; of all where none is named.

        Raises:
            ConfigError: a factor that there is not.
        """
        known = {arm.factor for arm in self.arms}
        if unknown := [name for name in factors if name not in known]:
            raise unknown_name("factor", unknown[0], known)
        return replace(self, arms=tuple(arm for arm in self.arms if arm.factor in factors)) if factors else self

    def check(self) -> None:
        """Sees that every arm can be run and is another run than the base, before anything is.

        Raises:
            ConfigError: an unknown field, a value of the wrong kind, or an arm that changes nothing.
        """
        plain = overridden(recipe(self.recipe), list(self.base), self.recipe)
        for arm in self.arms:
            if overridden(recipe(self.recipe), [*self.base, *arm.options], self.recipe) == plain:
                raise ConfigError(f"the arm '{arm.column}' changes nothing of the base")


def read_arms(path: Path, budget: StudyBudget, **settings: Any) -> AblationConfig:
    """The ablation that a file describes.

    Args:
        settings: further fields of `AblationConfig`; `data` in place of the file's where it is not "".

    Raises:
        ConfigError: no such file, not JSON of the form above, or something in it that is not known.
    """
    plain = _object(path)
    if unknown := [name for name in plain if name not in _PARTS]:
        raise unknown_name(f"part of {path}", unknown[0], _PARTS)
    factors = plain.get("factors")
    if not isinstance(plain.get("recipe"), str) or not isinstance(factors, dict):
        raise ConfigError(f"{path} names no recipe, or has no factors: see docs/study.md")
    arms = []
    for factor, named in factors.items():
        if not isinstance(named, dict):
            raise ConfigError(f"{path}: the factor '{factor}' has no arms with names")
        arms += [Arm(factor, name, _options(fields, f"{path}: {factor}: {name}")) for name, fields in named.items()]
    data = settings.pop("data", "") or plain.get("data", SCENES)
    base = _options(plain.get("base", {}), f"{path}: base")
    return AblationConfig(plain["recipe"], data, base, tuple(arms), budget, **settings)


def _object(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no arms at {path}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return plain


def _options(fields: Any, where: str) -> tuple[str, ...]:
    """{"image.size": 32, "trained.language": false} as words of the command line."""
    if not isinstance(fields, Mapping):
        raise ConfigError(f"{where} are no fields of the recipe with their values")
    found: list[str] = []
    for name, value in fields.items():
        if isinstance(value, bool):
            head, dot, last = name.rpartition(".")
            found.append(f"--{name}" if value else f"--{head}{dot}no-{last}")
        else:
            found += [f"--{name}", *(str(one) for one in (value if isinstance(value, list) else [value]))]
    return tuple(found)
