"""What a study is: recipes, one set of data, one budget, seeds; and each of its runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError
from diptych.core.storage import write_text

FAMILIES = ("visualbert_tiny", "clip_tiny", "maskvlm_tiny", "coca_tiny", "llava_tiny")
"""One of each: early fusion, contrastive, masked, generative, pretrained backbones."""
SCENES = "scenes?objects=2&words=0&patterns=0&noise=0"
SPEC = "study_run.json"


@dataclass(frozen=True)
class StudyBudget:
    """How long every run trains: one of the three. Stages before the one that a recipe is about have their own budget.

    Attributes:
        samples: seen, repetitions counted.
        seconds: of training on this machine, found by timing some steps first.
        flops: of forward and backward passes.
    """

    samples: int = 0
    seconds: float = 0.0
    flops: float = 0.0

    def __post_init__(self) -> None:
        given = [value for value in (self.samples, self.seconds, self.flops) if value]
        if len(given) != 1 or given[0] < 0:
            raise ConfigError(
                "a study has one budget for all: give --samples, --seconds or --flops, one of them and above 0"
            )

    def __str__(self) -> str:
        if self.samples:
            return f"{self.samples:,} samples"
        return f"{self.seconds:g} seconds" if self.seconds else f"{self.flops:.3g} FLOPs"


@dataclass(frozen=True)
class StudyRun:
    """One recipe with one seed.

    Attributes:
        options: fields of the recipe, as on the command line ("--optimizer.lr", "1e-3").
        threads: of torch; 0 for the recipe's own.
        limit: the most samples of each evaluation.
        arm: what its column is called, where runs of one recipe are compared; "" for the recipe's name.
    """

    recipe: str
    seed: int
    data: str
    budget: StudyBudget
    options: tuple[str, ...] = ()
    threads: int = 1
    device: str = "cpu"
    limit: int = 400
    arm: str = ""

    @property
    def column(self) -> str:
        """What it is called in tables."""
        return self.arm or self.recipe

    @property
    def name(self) -> str:
        """Of its folder."""
        name = re.sub(r"[^0-9A-Za-z_-]+", "_", self.arm) if self.arm else self.recipe.replace(":", ".")
        return f"{name}-{self.seed}"


class Runs(Protocol):
    """What has runs: a study, or an ablation."""

    def runs(self) -> list[StudyRun]:
        """Every run, seed by seed."""
        ...


@dataclass(frozen=True)
class StudyConfig:
    """Recipes beside one another.

    Attributes:
        seeds: how many of each; 0, 1, ...
        options: "clip_tiny.optimizer.lr=1e-3": fields of single recipes.
        held_out: a file with the keys of what is evaluated on; "" where the data have a test split of their own.
    """

    recipes: tuple[str, ...] = FAMILIES
    data: str = SCENES
    budget: StudyBudget = StudyBudget(samples=32_000)
    seeds: int = 1
    limit: int = 400
    options: tuple[str, ...] = ()
    threads: int = 1
    device: str = "cpu"
    held_out: str = ""

    def __post_init__(self) -> None:
        if not self.recipes or len(set(self.recipes)) < len(self.recipes):
            raise ConfigError("a study compares different recipes: name each once")
        if self.seeds < 1 or self.limit < 2:
            raise ConfigError(f"{self.seeds} seeds and evaluations of {self.limit} samples: at least 1 and 2")
        for option in self.options:
            _split(option, self.recipes)

    @property
    def reference(self) -> str:
        """The data as every run opens them."""
        return reference_of(self.data, self.held_out)

    def runs(self) -> list[StudyRun]:
        """Every run: seed by seed, so that a study that is stopped has something of each recipe."""
        return [
            StudyRun(
                recipe,
                seed,
                self.reference,
                self.budget,
                self.options_of(recipe),
                self.threads,
                self.device,
                self.limit,
            )
            for seed in range(self.seeds)
            for recipe in self.recipes
        ]

    def options_of(self, recipe: str) -> tuple[str, ...]:
        """The command line of one recipe."""
        found: list[str] = []
        for option in self.options:
            name, field, value = _split(option, self.recipes)
            found += [f"--{field}", value] if name == recipe else []
        return tuple(found)

    def command(self, out: Path | str = "FOLDER") -> str:
        """The line that repeats the study."""
        budget = next(f"--{name} {value:g}" for name, value in to_plain(self.budget).items() if value)
        if self.budget.samples:
            budget = f"--samples {self.budget.samples}"
        words = ["diptych study", *self.recipes, f"--data '{self.data}'", budget, f"--seeds {self.seeds}"]
        words += [f"--limit {self.limit}", f"--threads {self.threads}", f"--device {self.device}"]
        words += ["--set", *self.options] if self.options else []
        return " ".join([*words, f"--out {out}"])


def reference_of(data: str, held_out: str) -> str:
    """Data with the file of the keys that are evaluated on, where there is one."""
    mark = "&" if "?" in data else "?"
    return f"{data}{mark}held_out={quote(held_out)}" if held_out else data


def _split(option: str, recipes: Sequence[str]) -> tuple[str, str, str]:
    """Recipe, field and value of "clip_tiny.optimizer.lr=1e-3"."""
    name, equals, value = option.partition("=")
    recipe, dot, field = name.partition(".")
    if not (equals and dot and field) or recipe not in recipes:
        raise ConfigError(f"--set takes RECIPE.FIELD=VALUE of {', '.join(recipes)}; got '{option}'")
    return recipe, field, value


def claim(run: StudyRun, folder: Path) -> None:
    """Writes what a run is into its folder, or sees that it is what is there already.

    Raises:
        ConfigError: the folder holds a run of another study.
    """
    path, plain = folder / SPEC, to_plain(run)
    if path.is_file():
        there = to_plain(read_spec(folder))
        changed = [name for name in plain if name not in ("threads", "device") and there.get(name) != plain[name]]
        if changed:
            raise ConfigError(
                f"{folder} holds a run with another {changed[0]} ({there.get(changed[0])}, now {plain[changed[0]]}): "
                f"choose another --out, or ask for the same"
            )
        return
    write_text(path, json.dumps(plain, indent=2) + "\n")


def read_spec(folder: Path) -> StudyRun:
    """The run of a folder."""
    return from_plain(StudyRun, json.loads((folder / SPEC).read_text(encoding="utf-8")))
