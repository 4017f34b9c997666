"""Causal masking: what is moved comes back, parts keep within a modality and apart, and all of it follows the seed."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from diptych.core.errors import DataError
from diptych.data.words.causal_masking import SpanTokens, drawn_spans, masked, unmasked

START, END, BEGIN, FINISH = 0, 1, 2, 3
KINDS = SpanTokens((90, 91, 92), 99, frozenset({START, END, BEGIN, FINISH}))
DOCUMENT = [START, *range(10, 18), BEGIN, *range(30, 46), FINISH, *range(50, 55), END]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_as_in_the_paper() -> None:
    assert masked([0, 10, 11, 12, 1], [(2, 3)], KINDS) == [0, 10, 90, 12, 1, 90, 11, 99]
    two = masked([0, 10, 11, 12, 13, 1], [(1, 2), (3, 5)], KINDS)
    assert two == [0, 90, 11, 91, 1, 90, 10, 99, 91, 12, 13, 99]


def test_the_document_comes_back_whatever_is_drawn() -> None:
    counts: Counter[int] = Counter()
    for seed in range(2000):
        spans = drawn_spans(DOCUMENT, KINDS, rng(seed), 1.0)
        counts[len(spans)] += 1
        assert unmasked(masked(DOCUMENT, spans, KINDS), KINDS) == DOCUMENT
    assert set(counts) == {0, 1, 2, 3}
    assert abs(counts[0] / 2000 - np.exp(-1)) < 0.04  # of a Poisson of one; some parts find no place


def test_no_part_crosses_a_break_or_another_part() -> None:
    places = np.zeros(len(DOCUMENT))
    for seed in range(2000):
        spans = drawn_spans(DOCUMENT, KINDS, rng(seed), 2.0)
        for begin, end in spans:
            assert begin < end and not KINDS.breaks.intersection(DOCUMENT[begin:end])
            places[begin:end] += 1
        for (_, end), (begin, _) in itertools.pairwise(spans):
            assert end <= begin
    held = [place for place, token in enumerate(DOCUMENT) if token not in KINDS.breaks]
    assert places[held].min() > 50 and places.sum() == places[held].sum()  # every word and code is moved now and then


def test_equal_seeds_move_equal_parts() -> None:
    assert drawn_spans(DOCUMENT, KINDS, rng(3), 2.0) == drawn_spans(DOCUMENT, KINDS, rng(3), 2.0)
    assert len({tuple(drawn_spans(DOCUMENT, KINDS, rng(seed), 2.0)) for seed in range(50)}) > 20


def test_without_draws_nothing_changes() -> None:
    assert drawn_spans(DOCUMENT, KINDS, rng(0), 0.0) == [] and masked(DOCUMENT, [], KINDS) == DOCUMENT


@pytest.mark.parametrize("tokens", [[0, 90, 1, 90, 11], [0, 90, 1], [0, 90, 1, 91, 11, 99], [0, 90, 91, 1, 90, 11, 99]])
def test_a_document_whose_parts_are_not_there_is_refused(tokens: list[int]) -> None:
    with pytest.raises(DataError, match="part"):
        unmasked(tokens, KINDS)
