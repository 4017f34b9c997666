"""A step as bare products against the modules, for every kind of block, float64."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from itertools import product
from typing import Literal

import pytest
import torch
from torch import nn

from diptych.core.errors import DataError
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.single_token_step import SingleTokenStep
from diptych.layers.small_batch_linear import SmallBatchLinear

SIZES = CausalConfig(24, 2, 4, 40)
SHAPES: tuple[tuple[float, bool, bool, int], ...] = (
    (1e4, True, False, 0),
    (0.0, False, True, 2),
    (1e4, False, True, 1),
)
"""rotary, gated, bias, key_heads"""
NORMS: tuple[Literal["rms", "layer"], ...] = ("rms", "layer")
KINDS = [
    CausalConfig(24, 2, 4, 40, keys, norm, 1e-5, after, heads, rotary, gated, bias)
    for norm, after, heads, (rotary, gated, bias, keys) in product(NORMS, (False, True), (False, True), SHAPES)
]


def trunk_of(config: CausalConfig) -> CausalTransformer:
    torch.manual_seed(0)
    trunk = CausalTransformer(config).double().eval()
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return trunk


@pytest.mark.parametrize("starts", [None, [0, 2, 1]], ids=["even", "padded"])
@pytest.mark.parametrize("config", KINDS, ids=str)
def test_states_are_those_of_the_modules(config: CausalConfig, starts: list[int] | None) -> None:
    trunk = trunk_of(config)
    starts_N = None if starts is None else torch.tensor(starts)
    with torch.inference_mode():
        step = SingleTokenStep.of(trunk)
        assert step is not None and step.takes(64) and not step.takes(65)
        x = torch.randn(3, 9, 24, dtype=torch.float64)
        caches = [trunk.cache(8, starts_N) for _ in range(2)]
        for cache in caches:
            trunk(x[:, :4], cache)
        for at in range(4, 7):
            wanted = trunk(x[:, at : at + 1], caches[0])[:, 0]
            torch.testing.assert_close(step(x[:, at], caches[1]), wanted, rtol=1e-10, atol=1e-10)
        for cache in caches:
            cache.select(torch.tensor([2, 0]))
        wanted = trunk(x[[2, 0], 7:8], caches[0])[:, 0]
        torch.testing.assert_close(step(x[[2, 0], 7], caches[1]), wanted, rtol=1e-10, atol=1e-10)
        with pytest.raises(DataError, match="9 tokens do not fit"):
            step(x[[2, 0], 8], caches[1])


def test_rows_that_end_are_written_on_in_the_order_of_the_many() -> None:
    """In float32 several rows read the weights in another order than one does; when few are left they stay in it."""
    trunk = trunk_of(SIZES).float()
    with torch.inference_mode():
        step = SingleTokenStep.of(trunk)
        assert step is not None
        x = torch.randn(4, 4, 24)
        caches = [trunk.cache(4) for _ in range(2)]
        for at, rows in enumerate((4, 4, 1, 1)):
            if at == 2:
                for cache in caches:
                    cache.select(torch.tensor([2]))
            mine = x[2:3, at] if rows == 1 else x[:, at]
            wanted = trunk(mine[:, None], caches[0])[:, 0]
            torch.testing.assert_close(step(mine, caches[1]), wanted)


def test_changed_weights_are_read_again() -> None:
    trunk = trunk_of(SIZES)
    x = torch.randn(1, 24, dtype=torch.float64)

    def said() -> torch.Tensor:
        with torch.inference_mode():
            step = SingleTokenStep.of(trunk)
            assert step is not None
            return step(x, trunk.cache(1))

    before = said()
    with torch.no_grad():
        trunk.blocks[0].attention.key_value.weight.mul_(2)  # type: ignore[union-attr, operator]
        trunk.blocks[1].mlp.down.weight.mul_(2)  # type: ignore[union-attr, operator]
    changed = said()
    assert not torch.allclose(before, changed)
    with torch.inference_mode():
        torch.testing.assert_close(changed, trunk(x[:, None], trunk.cache(1))[:, 0])
    twin = copy.deepcopy(trunk)
    assert len(pickle.dumps(twin.state_dict())) == len(pickle.dumps(trunk_of(SIZES).state_dict()))
    assert twin.blocks[0].attention.stacked._held is None  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_weights_that_a_fused_optimizer_changed_are_read_again(mode: str) -> None:
    """It does not count its changes (`_version`); the modules' own copies are asked too."""
    trunk = trunk_of(SIZES)
    optimizer = torch.optim.AdamW(trunk.parameters(), lr=0.1, fused=True)
    x = torch.randn(1, 24, dtype=torch.float64)
    for _ in range(2):
        getattr(trunk, mode)()
        trunk(x[:, None]).square().sum().backward()
        optimizer.step()
        with torch.inference_mode():
            step = SingleTokenStep.of(trunk)
            assert step is not None
            stepped, moduled = step(x, trunk.cache(1)), trunk(x[:, None])[:, 0]
        wanted = trunk(x[:, None])[:, 0].detach()  # with gradients nothing is copied
        torch.testing.assert_close(stepped, wanted)
        torch.testing.assert_close(moduled, wanted)


def test_a_change_of_mode_drops_copies() -> None:
    """As where a trainer evaluates between steps whose forward passes were recomputed elsewhere."""
    trunk = trunk_of(SIZES)
    x = torch.randn(1, 24, dtype=torch.float64)
    with torch.inference_mode():
        assert SingleTokenStep.of(trunk) is not None
        trunk(x[:, None])
    for parameter in trunk.parameters():
        parameter.data.mul_(1.5)  # not counted either
    trunk.eval()
    with torch.inference_mode():
        step = SingleTokenStep.of(trunk)
        assert step is not None
        stepped = step(x, trunk.cache(1))
    torch.testing.assert_close(stepped, trunk(x[:, None])[:, 0].detach())


def test_it_is_for_plain_stacks_without_gradients_only() -> None:
    trunk = trunk_of(SIZES)
    assert SingleTokenStep.of(trunk) is None  # gradients are on
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert SingleTokenStep.of(trunk) is None
    with torch.no_grad():
        assert SingleTokenStep.of(CausalTransformer(replace(SIZES, memory_width=8))) is None
        trunk.blocks[0].mlp.up = nn.Linear(24, 80)  # type: ignore[union-attr]
        assert SingleTokenStep.of(trunk) is None
        trunk.blocks[0].mlp.up = nn.Sequential(SmallBatchLinear(24, 24), SmallBatchLinear(24, 80))  # type: ignore[union-attr]
        assert SingleTokenStep.of(trunk) is None
