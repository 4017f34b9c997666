from functools import cache

import pytest

from diptych.core.errors import DataError
from diptych.evaluation.metrics.anls import anls, edit_distance


@cache
def recursive(a: str, b: str) -> int:
    """The definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(recursive(a[1:], b) + 1, recursive(a, b[1:]) + 1, recursive(a[1:], b[1:]) + (a[0] != b[0]))


@pytest.mark.parametrize(
    ("a", "b"), [("kitten", "sitting"), ("", "abc"), ("flaw", "lawn"), ("abc", "abc"), ("invoice", "voices"), ("a", "")]
)
def test_distance(a: str, b: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == recursive(a, b)


def test_known_values() -> None:
    assert anls("TCT", ["tct"]) == 1.0
    assert anls(" new  york ", ["New York"]) == 1.0
    assert anls("sitting", ["kitten"]) == pytest.approx(1 - 3 / 7)
    assert anls("ab", ["ac"]) == 0.0  # half of it wrong is the threshold itself
    assert anls("abc", ["abd"]) == pytest.approx(2 / 3)
    assert anls("abc", ["xyz", "abd", "abc!"]) == pytest.approx(3 / 4)  # the nearest counts
    assert anls("", ["abc"]) == 0.0
    assert anls("abc", ["abd"], threshold=0.3) == 0.0
    with pytest.raises(DataError, match="without a single reference"):
        anls("abc", [])
