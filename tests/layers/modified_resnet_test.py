"""The ResNet tower's parts against closed forms; its sizes; what it cannot do, refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.modified_resnet import Bottleneck, MeanQueryPool, ModifiedResNet, ResNetConfig

TINY = ResNetConfig(64, stem=4, blocks=(1, 2, 1, 1), heads=4)


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_pool_is_torchs_multi_head_attention_with_the_mean_as_its_query() -> None:
    pool = MeanQueryPool(TINY).double()
    nn.init.normal_(pool.qkv.bias)
    maps = rows(3, 128, 2, 2)
    places = maps.flatten(2).transpose(1, 2)
    tokens = torch.cat([places.mean(1, keepdim=True), places], 1) + pool.positions_TD
    attention = nn.MultiheadAttention(128, 4, batch_first=True).double()
    with torch.no_grad():
        attention.in_proj_weight.copy_(pool.qkv.weight)
        attention.in_proj_bias.copy_(pool.qkv.bias)
        attention.out_proj.weight.copy_(torch.eye(128))
        attention.out_proj.bias.zero_()
        expected = attention(tokens[:, :1], tokens, tokens)[0][:, 0]
        torch.testing.assert_close(pool(maps), expected, rtol=1e-10, atol=1e-12)


def test_a_fresh_block_passes_on_what_it_is_given() -> None:
    block = Bottleneck(16, 4, stride=1)
    maps = rows(2, 16, 4, 4).float()
    assert block.shortcut is None
    assert torch.equal(block(maps), F.relu(maps))


def test_strides_are_average_pools_so_nothing_between_the_strides_is_passed_over() -> None:
    """A strided 1x1 convolution would not see three of four pixels; here each of them moves the shortcut."""
    block = Bottleneck(4, 4, stride=2).double().eval()
    maps = rows(1, 4, 4, 4).requires_grad_()
    assert block.shortcut is not None
    block.shortcut(block._pooled(maps)).square().sum().backward()
    assert maps.grad is not None and bool((maps.grad.abs().sum(1) > 0).all())
    assert block(maps).shape == (1, 16, 2, 2)


def test_the_published_tower_has_its_number_of_parameters_and_a_map_of_seven_by_seven() -> None:
    """OpenAI's RN50 has 38.3 million in its tower, 2.1 of them in the output map, which is the image head here."""
    with torch.device("meta"):
        tower = ModifiedResNet(ResNetConfig())
    assert sum(p.numel() for p in tower.parameters()) / 1e6 == pytest.approx(38.32 - 2.10, abs=0.01)
    assert (ResNetConfig().width, ResNetConfig().grid) == (2048, 7)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (32, 128)])
def test_other_sizes_take_their_positions_by_interpolation(height: int, width: int) -> None:
    tower = ModifiedResNet(TINY).double().eval()
    out = tower(rows(2, 3, height, width))
    assert out.shape == (2, 128) and bool(out.isfinite().all())


@pytest.mark.parametrize(("size", "near"), [(230, 224), (20, 32), (0, 32), (100, 96)])
def test_sizes_that_do_not_divide_are_refused_with_the_nearest(size: int, near: int) -> None:
    with pytest.raises(ConfigError, match=f"a multiple of 32 pixels, not {size}: try {near}"):
        ResNetConfig(size)


def test_odd_stems_and_heads_that_do_not_divide_are_refused() -> None:
    for wrong in ({"stem": 7}, {"stem": 4, "heads": 3}):
        with pytest.raises(ConfigError, match="channels after the stem"):
            ResNetConfig(64, **wrong)
