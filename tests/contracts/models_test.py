"""Every model file there is, against every check of the contract."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract import CHECKS, Case, cases_of, eight_samples_are_memorised

from diptych.core import discovery

CASES = [case for found in discovery.models().values() if found.literal("VERBS", ()) for case in cases_of(found.load())]


FIRSTS = {case.module.__name__: case for case in reversed(CASES)}
"""The first task of every model file."""


def checks() -> Iterator[Any]:
    """Every case with every check; memorising takes longest, and is slow for all but a file's first task."""
    for case in CASES:
        for check in CHECKS:
            slow = check is eight_samples_are_memorised and FIRSTS[case.module.__name__] is not case
            name = f"{case.module.__name__.rpartition('.')[2]}-{case.name}-{check.__name__}"
            yield pytest.param(case, check, id=name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("case", "check"), checks())
def test_contract(case: Case, check: Callable[[Case], None]) -> None:
    check(case)


def test_every_model_file_is_a_case() -> None:
    assert {case.module.__name__ for case in CASES} == {found.module for found in discovery.models().values()}
