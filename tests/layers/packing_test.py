"""Rows that several sequences share: where they go, and that none sees another."""

from __future__ import annotations

import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.packing import first_fit, pack

CPU = torch.device("cpu")


def test_each_goes_into_the_first_row_with_room_in_order() -> None:
    assert first_fit([5, 3, 4, 2, 6, 1], 8) == [[0, 1], [2, 3, 5], [4]]
    assert first_fit([], 8) == []
    with pytest.raises(ConfigError, match="9 tokens does not fit rows of 8"):
        first_fit([3, 9], 8)
    packing = pack([2, 1, 3], 3, 4, CPU)
    assert packing.sequence_RL.tolist() == [[0, 0, 1], [2, 2, 2]]
    assert packing.places_RL.tolist() == [[0, 1, 0], [0, 1, 2]]
    assert packing.source_RL.tolist() == [[0, 1, 3], [6, 7, 8]]
    padded = pack([3, 1, 2], 3, 3, CPU)
    assert padded.labels(torch.arange(9).view(3, 3), -100).tolist() == [[0, 1, 2], [3, 6, 7]]
    assert pack([3, 2], 3, 3, CPU).labels(torch.arange(6).view(2, 3), -100).tolist() == [[0, 1, 2], [3, 4, -100]]


@pytest.mark.parametrize("room", [7, 12, 40])
def test_states_are_those_of_each_by_itself(room: int) -> None:
    torch.manual_seed(0)
    trunk = CausalTransformer(CausalConfig(16, 2, 4, 24, key_heads=2)).double()
    lengths = [5, 2, 7, 1, 3, 6, 4]
    x_BTD = torch.randn(7, 7, 16, dtype=torch.float64)
    packing = pack(lengths, 7, room, CPU)
    states_RLD = trunk(packing.gather(x_BTD), mask_BTS=packing.mask(), places_BT=packing.places_RL)
    for one, length in enumerate(lengths):
        alone_TD = trunk(x_BTD[one : one + 1, :length])[0]
        torch.testing.assert_close(states_RLD[packing.sequence_RL == one], alone_TD, rtol=0, atol=1e-12)
    assert bool(packing.mask().diagonal(dim1=1, dim2=2).all())  # every token sees one at least
