"""Each claim has a page, and the page prints the numbers of the committed result."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from _claim import claim, names

CLAIMS = Path(__file__).parents[2] / "benchmarks" / "claims"


def _script() -> ModuleType:
    """page.py, whose name is too common for an import."""
    spec = importlib.util.spec_from_file_location("claims_page", CLAIMS / "page.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = _script()


@pytest.mark.parametrize("name", names())
def test_the_page_prints_the_numbers_of_the_result(name: str) -> None:
    text = page.page_of(name).read_text(encoding="utf-8")
    assert page.filled(text, page.result_of(name)) == text, f"run `python benchmarks/claims/page.py {name}`"


@pytest.mark.parametrize("name", names())
def test_the_result_is_of_the_definition(name: str) -> None:
    result, defined = page.result_of(name), claim(name)
    assert "draft" not in result["definition"]
    assert (result["sentence"], result["threshold"]) == (defined.sentence, defined.threshold)
    assert result["seeds"] == list(range(defined.seeds))
    assert list(result["arms"]) == [arm.name for arm in defined.arms]
    assert [one["name"] for one in result["comparisons"]] == [one.name for one in defined.comparisons]
    assert (result["verdict"] == "holds") == all(one["holds"] for one in result["comparisons"] if one["primary"])


@pytest.mark.parametrize("name", names())
def test_the_page_says_the_claim(name: str) -> None:
    assert claim(name).sentence in page.page_of(name).read_text(encoding="utf-8")
