"""A recipe from the command line: found by name, its fields overridden by dotted names."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro
import yaml

from diptych.core import discovery
from diptych.core.config import from_plain
from diptych.core.errors import ConfigError, unknown_name
from diptych.core.records.run_folder import RunFolder
from diptych.training.run import Run

_FLAT = (tyro.conf.AvoidSubcommands,)
"""A field that may be absent (views) has the fields of its default; no subcommands."""


def recipe(reference: str) -> Run:
    """The default configuration of `clip_tiny` or `my_package.runs:small_clip`."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a user's own package lies where they stand
    run = discovery.resolve("recipe", reference, discovery.recipes())()
    assert isinstance(run, Run), f"{reference} returned a {type(run).__name__}, not a Run"
    return run


def as_saved(run: Run, folder: Path) -> Run:
    """The configuration in the folder of a run of this recipe, so that resuming it needs no field said again."""
    if not RunFolder.is_one(folder):
        return run
    saved = yaml.safe_load(RunFolder(folder).config.read_text(encoding="utf-8"))
    return from_plain(type(run), saved) if saved["name"] == run.name else run


def overridden(run: Run, arguments: list[str], prog: str) -> Run:
    """The configuration with `--optimizer.lr 1e-3` and the like applied.

    Raises:
        ConfigError: an unknown field (the nearest is named) or a value of the wrong type.
    """
    known = set(field_names(run))
    for argument in arguments:
        name = argument.removeprefix("--").split("=", 1)[0].replace("-", "_")
        if argument.startswith("--") and name != "help" and _positive(name) not in known:
            raise unknown_name(f"field of {run.name}", name, known)
    if "--help" in arguments or "-h" in arguments:
        tyro.cli(type(run), args=["--help"], default=run, prog=prog, config=_FLAT)
    arguments = _one_budget(arguments)
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            return tyro.cli(type(run), args=arguments, default=run, prog=prog, config=_FLAT)
    except SystemExit as error:
        raise ConfigError(_sentence(output.getvalue())) from error


def _one_budget(arguments: list[str]) -> list[str]:
    """A budget in steps takes the place of a recipe's in samples, and the other way round."""
    given = {argument.partition("=")[0] for argument in arguments}
    for kind, other in (("steps", "samples"), ("samples", "steps")):
        if f"--budget.{kind}" in given and f"--budget.{other}" not in given:
            return [*arguments, f"--budget.{other}", "0"]
    return arguments


def _positive(name: str) -> str:
    """`no_compile` as `compile`: how tyro spells a switch that is turned off."""
    head, _, last = name.rpartition(".")
    last = last.removeprefix("no_")
    return f"{head}.{last}" if head else last


def field_names(value: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted name of a nested dataclass."""
    for field in dataclasses.fields(value):
        name, inner = f"{prefix}{field.name}", getattr(value, field.name)
        yield name
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            yield from field_names(inner, f"{name}.")


def _sentence(printed: str) -> str:
    """What tyro says, without its box."""
    lines = [re.sub(r"[│╭╮╰╯─]", " ", line).strip() for line in printed.splitlines()]
    said = [line for line in lines if line and not line.startswith(("Parsing error", "For full helptext"))]
    return " ".join(said) or "the arguments cannot be read"
