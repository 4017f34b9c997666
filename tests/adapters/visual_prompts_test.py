"""VPT: which tokens a block is given, and that deep prompts replace those of the block before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diptych.adapters.visual_prompts import VisualPrompts
from diptych.core.errors import ConfigError
from diptych.layers.vision_transformer import Pooling, VisionConfig, VisionTransformer

PROMPTS, DEPTH, WIDTH, PATCHES = 3, 3, 12, 4


def tower(pooling: Pooling = "cls", pre_norm: bool = True) -> VisionTransformer:
    torch.manual_seed(0)
    config = VisionConfig(8, 4, WIDTH, DEPTH, 3, 24, pooling, pre_norm)
    vision = VisionTransformer(config).double()
    for parameter in vision.parameters():
        nn.init.normal_(parameter, std=0.4)
    return vision


def prompts_of(vision: VisionTransformer, deep: bool) -> VisualPrompts:
    prompts = VisualPrompts(vision.config, PROMPTS, deep).double()
    nn.init.normal_(prompts.vectors_LPD)
    return prompts


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pooling", ["cls", "mean", "map"])
@pytest.mark.parametrize("deep", [False, True])
def test_against_the_blocks_written_out(pooling: Pooling, deep: bool) -> None:
    vision = tower(pooling)
    prompts, special = prompts_of(vision, deep), vision.config.special
    x = vision.embed(pictures())
    head, prompt, patches = x[:, :special], prompts.vectors_LPD[0].expand(2, -1, -1), x[:, special:]
    for layer, block in enumerate(vision.transformer.blocks):
        if deep:
            prompt = prompts.vectors_LPD[layer].expand(2, -1, -1)
        out = block(torch.cat([head, prompt, patches], 1))
        head, prompt, patches = out.split([special, PROMPTS, PATCHES], 1)
    rest = vision.norm_post(torch.cat([head, patches], 1))
    expected = rest[:, 0] if pooling == "cls" else rest.mean(1) if vision.pool is None else vision.pool(rest)
    torch.testing.assert_close(prompts(vision, pictures()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("deep", [False, True])
def test_every_block_is_given_as_many_tokens(deep: bool) -> None:
    vision, seen = tower(), list[int]()
    for block in vision.transformer.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    prompts_of(vision, deep)(vision, pictures())
    assert seen == [1 + PROMPTS + PATCHES] * DEPTH


def test_deep_prompts_that_repeat_what_blocks_put_out_are_shallow_ones() -> None:
    """Replaced, not added: with the shallow prompts' own states in their place nothing changes."""
    vision = tower()
    shallow, deep, states = prompts_of(vision, False), prompts_of(vision, True), list[Tensor]()
    for block in vision.transformer.blocks:
        block.register_forward_pre_hook(lambda _, given: states.append(given[0][0, 1 : 1 + PROMPTS].detach()))
    expected = shallow(vision, pictures(1))
    with torch.no_grad():
        deep.vectors_LPD.copy_(torch.stack(states))
    torch.testing.assert_close(deep(vision, pictures(1)), expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        deep.vectors_LPD[1, :, 0] += 1
    assert float((deep(vision, pictures(1)) - expected).detach().abs().max()) > 1e-3


@pytest.mark.parametrize(("deep", "layers"), [(False, 1), (True, DEPTH)])
def test_parameters_are_those_of_the_formula_and_each_layer_counts(deep: bool, layers: int) -> None:
    vision = tower()
    prompts = prompts_of(vision, deep)
    assert sum(p.numel() for p in prompts.parameters()) == layers * PROMPTS * WIDTH
    prompts(vision, pictures()).square().sum().backward()
    assert prompts.vectors_LPD.grad is not None
    assert bool((prompts.vectors_LPD.grad.abs().amax((1, 2)) > 0).all())


def test_no_prompts_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        VisualPrompts(tower().config, 0, False)
