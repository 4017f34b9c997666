"""Everyone's other: a derangement where all are allowed, a function of keys and seed, and never one that is not."""

from hypothesis import given
from hypothesis import strategies as st

from diptych.evaluation.derangement import Derangement

KEYS = [f"k{i}" for i in range(50)]


def test_where_all_are_allowed_everyone_is_the_other_of_one() -> None:
    others = Derangement(KEYS, 0)
    found = [others.of(index, lambda at: True) for index in range(50)]
    assert sorted(found) == list(range(50))  # type: ignore[type-var]
    assert all(other != index for index, other in enumerate(found))
    assert found != [Derangement(KEYS, 1).of(index, lambda at: True) for index in range(50)]


def test_the_order_of_the_samples_does_not_matter() -> None:
    backwards = KEYS[::-1]
    for index, key in enumerate(KEYS):
        other = Derangement(KEYS, 3).of(index, lambda at: True)
        again = Derangement(backwards, 3).of(backwards.index(key), lambda at: True)
        assert other is not None and again is not None
        assert KEYS[other] == backwards[again]


@given(st.integers(1, 12), st.sets(st.integers(0, 11)), st.integers(0, 5))
def test_only_what_is_allowed_and_never_oneself(count: int, allowed: set[int], seed: int) -> None:
    others = Derangement(KEYS[:count], seed)
    for index in range(count):
        other = others.of(index, allowed.__contains__)
        possible = {one for one in allowed if one < count} - {index}
        assert other in possible if possible else other is None
