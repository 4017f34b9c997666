"""docs/systems.md, the systems' own pages and README print what the records say; every system has its page."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from diptych.core import discovery

ROOT = Path(__file__).parents[2]
PARTS = ("## The equation", "## When to use it", "## Our numbers", "## The command")


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_systems", ROOT / "docs" / "generate_systems.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


generate = _script()
MODELS = discovery.models()


def test_pages_print_what_the_records_say() -> None:
    stale = [
        page.name
        for page, block in generate.pages().items()
        if generate.filled(page.read_text(encoding="utf-8"), block) != page.read_text(encoding="utf-8")
    ]
    assert stale == [], "run `python docs/generate_systems.py`"


@pytest.mark.parametrize("model", MODELS)
def test_every_system_has_a_page_with_its_parts(model: str) -> None:
    text = generate.page_of(model).read_text(encoding="utf-8")
    places = [text.find(f"\n{part}\n") for part in PARTS]
    assert -1 not in places and places == sorted(places)
    assert str(MODELS[model].path.relative_to(discovery.PACKAGE)) in text
    command = text[places[-1] :]
    assert "```bash\ndiptych " in command


def test_no_page_is_of_a_system_that_is_gone() -> None:
    assert {page.stem for page in (ROOT / "docs" / "systems").glob("*.md")} <= set(MODELS)


def imported_by(path: Path) -> set[str]:
    """What a test file imports, by itself or through a helper of the tests."""
    names = set(generate._imported(ast.parse(path.read_text(encoding="utf-8"))))
    helpers = [found for name in names if "." not in name for found in (ROOT / "tests").rglob(f"{name}.py")]
    return names.union(*(imported_by(helper) for helper in helpers))


def test_every_mark_names_models_that_are_there_and_a_library_that_its_file_imports() -> None:
    assert generate.parities()
    for mark in generate.parities():
        assert set(mark.models) <= set(MODELS), mark
        libraries = {name.split(".")[0] for name in imported_by(ROOT / mark.file)}
        library = mark.beside.split(" ")[0]
        assert {library, f"{library}_oracle"} & libraries, mark  # the second skips where the library is not installed


def test_a_claim_is_counted_for_the_models_of_its_treated_arms() -> None:
    claimed = {record.text.partition("](docs/claims/")[2].partition(".md")[0]: record for record in generate.claims()}
    assert claimed["scarce_pairs"].models == {"slip", "clip_rocket"}
    assert claimed["scarce_pairs"].text.endswith(": holds")
    assert claimed["llip_varied_captions"].models == {"llip"}
    assert claimed["llip_varied_captions"].text.endswith(": does not hold")
