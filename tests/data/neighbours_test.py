"""Which documents stand beside another: by brute force, one rule at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.data.neighbours import NOTHING, NeighbourRules, neighbours, thinned


def by_hand(query_D: Tensor, memory_ND: Tensor, allowed_N: Tensor, rules: NeighbourRules) -> list[int]:
    """The rules as the paper says them, one document at a time."""
    taken: list[int] = []
    for place in (memory_ND @ query_D).argsort(descending=True).tolist():
        close = float(memory_ND[place] @ query_D)
        apart = all(float(memory_ND[place] @ memory_ND[other]) < rules.below for other in taken)
        if len(taken) < rules.most and close < rules.below and apart and allowed_N[place]:
            taken.append(place)
    return taken + [NOTHING] * (rules.most - len(taken))


@pytest.mark.parametrize("below", [0.3, 0.6, 0.9, 1.0])
def test_neighbours_are_those_of_the_rules(below: float) -> None:
    torch.manual_seed(0)
    memory_ND = F.normalize(torch.randn(60, 4), dim=-1)
    queries_QD = torch.cat([F.normalize(torch.randn(20, 4), dim=-1), memory_ND[:10]])
    allowed_QN = torch.rand(30, 60) < 0.8
    rules = NeighbourRules(3, below)
    found = neighbours(queries_QD, memory_ND, allowed_QN, rules).tolist()
    assert found == [by_hand(*one, rules) for one in zip(queries_QD, [memory_ND] * 30, allowed_QN, strict=True)]
    assert all(place not in row[:at] for row in found for at, place in enumerate(row) if place != NOTHING)


def test_neither_itself_nor_its_copy_is_found() -> None:
    memory_ND = F.normalize(
        torch.tensor([[1.0, 0, 0], [1.0, 0.05, 0], [0.8, 0.6, 0], [0.8, 0.61, 0], [0, 0, 1]]), dim=-1
    )
    everything = torch.ones(1, 5, dtype=torch.bool)
    assert neighbours(memory_ND[:1], memory_ND, everything, NeighbourRules(3)).tolist() == [[2, 4, NOTHING]]
    assert neighbours(memory_ND[:1], memory_ND, torch.zeros_like(everything), NeighbourRules(1)).tolist() == [[NOTHING]]


def test_a_query_loses_a_share_of_its_words_and_never_all() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    words = list(range(1000))
    kept = thinned(words, 0.2, rng)
    assert 750 < len(kept) < 850 and kept == sorted(kept)
    assert all(len(thinned([7], 0.99, rng)) == 1 for _ in range(50))
    assert thinned(words, 0.0, rng) == words and thinned([], 0.2, rng) == []


def test_rules_that_are_none() -> None:
    for wrong in ({"most": 0}, {"below": 0.0}, {"query_dropout": 1.0}):
        with pytest.raises(ConfigError, match="neighbours"):
            NeighbourRules(**wrong)  # type: ignore[arg-type]
