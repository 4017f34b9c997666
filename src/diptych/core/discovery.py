"""Finding models, recipes and benchmarks by listing their folders, without importing them.

What a listing needs of a file (the verbs of a model, the verbs a benchmark requires, the public weights a model
reads) stands in it as a literal at the top level and is read from its syntax tree.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from diptych.core.errors import ConfigError, unknown_name

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Found:
    """A file that adds something by standing in a folder."""

    name: str
    path: Path
    module: str

    @cached_property
    def _tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))

    @property
    def title(self) -> str:
        """The first line of the file's docstring."""
        return (ast.get_docstring(self._tree) or "").split("\n", 1)[0].rstrip(".")

    def literal(self, name: str, default: Any) -> Any:
        """The value of a top-level literal assignment `name = ...`, or `default`."""
        for node in self._tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign) and node.value is not None:
                targets = [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and target.id == name:
                    assert isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
                    return ast.literal_eval(node.value)
        return default

    def load(self) -> ModuleType:
        """Imports the file."""
        return importlib.import_module(self.module)


def find(folder: Path, package: str) -> dict[str, Found]:
    """Every module below `folder`, by file name; names that begin with an underscore are not listed.

    Args:
        folder: the folder to list, sub-folders included.
        package: the import name of that folder.
    """
    found: dict[str, Found] = {}
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder).with_suffix("")
        if any(part.startswith("_") for part in relative.parts):
            continue
        if path.stem in found:
            raise ConfigError(f"two files are named {path.stem}: {found[path.stem].path} and {path}")
        found[path.stem] = Found(path.stem, path, ".".join([package, *relative.parts]))
    return found


def models() -> dict[str, Found]:
    """The models shipped here, by file name."""
    return find(PACKAGE / "models", "diptych.models")


def recipes() -> dict[str, Found]:
    """The recipes shipped here, by file name."""
    return find(PACKAGE / "recipes", "diptych.recipes")


def benchmarks() -> dict[str, Found]:
    """The benchmarks shipped here, by file name."""
    return find(PACKAGE / "evaluation" / "benchmarks", "diptych.evaluation.benchmarks")


def sources() -> dict[str, Found]:
    """The kinds of data that can be opened, by file name."""
    scenes = Found("scenes", PACKAGE / "data" / "scenes" / "source.py", "diptych.data.scenes.source")
    return {**find(PACKAGE / "data" / "sources", "diptych.data.sources"), scenes.name: scenes}


def resolve(kind: str, reference: str, known: dict[str, Found]) -> Any:
    """The object a user names: `clip_tiny` (ours) or `my_package.runs:small_clip` (theirs).

    Args:
        kind: what is looked for ("recipe"), for messages.
        reference: a listed file name, whose object has the same name, or `module:object`.
        known: the listing.

    Raises:
        ConfigError: nothing has that name; the nearest known one is named.
    """
    if ":" not in reference:
        if reference not in known:
            raise unknown_name(kind, reference, known)
        return getattr(known[reference].load(), reference)
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # a module that exists, but whose own imports fail, is not a wrong name
        raise ConfigError(f"no module named '{error.name}' for the {kind} '{reference}'") from error
    if not hasattr(module, attribute):
        raise unknown_name(f"{kind} in {module_name}", attribute, [n for n in vars(module) if not n.startswith("_")])
    return getattr(module, attribute)
