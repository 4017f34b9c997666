"""Every model file there is, against every check of the contract."""

from collections.abc import Callable

import pytest
from contract import CHECKS, Case, cases_of

from diptych.core import discovery

CASES = [case for found in discovery.models().values() if found.literal("VERBS", ()) for case in cases_of(found.load())]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.module.__name__.rpartition('.')[2]}-{case.name}")
def test_contract(case: Case, check: Callable[[Case], None]) -> None:
    check(case)


def test_every_model_file_is_a_case() -> None:
    assert {case.module.__name__ for case in CASES} == {found.module for found in discovery.models().values()}
