"""The vision transformer's own parts against closed forms, and against `transformers` where that is the closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.normalise import Normalise
from diptych.layers.vision_transformer import (
    PatchEmbedding,
    VisionConfig,
    VisionTransformer,
    interpolate_positions,
)

CONFIG = VisionConfig(16, 4, width=20, depth=2, heads=5, hidden=28)


def tower(**changed: Any) -> VisionTransformer:
    """Random everywhere, in float64."""
    made = VisionTransformer(replace(CONFIG, **changed)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


def pictures(height: int = 16, width: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 3, height, width, dtype=torch.float64, generator=generator)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_patches_are_a_convolution_with_stride_and_kernel_of_a_patch(bias: bool, layout: torch.memory_format) -> None:
    module = PatchEmbedding(4, 20, bias).double()
    if module.bias is not None:
        torch.nn.init.normal_(module.bias)
    image_BCHW = pictures(8, 20).to(memory_format=layout).requires_grad_()
    found = module(image_BCHW)
    expected = F.conv2d(image_BCHW, module.weight, module.bias, stride=4).flatten(2).transpose(1, 2)
    assert found.shape == (3, 2 * 5, 20)
    assert_equal(found, expected)
    wanted = [image_BCHW, module.weight]
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), wanted),
        torch.autograd.grad(expected.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), [(18, 16), (16, 18)])
def test_a_picture_that_patches_do_not_divide_is_refused_with_the_numbers(height: int, width: int) -> None:
    with pytest.raises(ConfigError, match=f"a picture of {height}x{width} does not divide into patches of 4"):
        tower()(pictures(height, width))


@pytest.mark.parametrize(("size", "patch", "near"), [(225, 16, 224), (30, 8, 24), (5, 8, 8)])
def test_a_size_that_patches_do_not_divide_is_refused_with_the_nearest_that_works(
    size: int, patch: int, near: int
) -> None:
    said = f"image size {size} is not divisible by patch size {patch}: try {near}$"
    with pytest.raises(ConfigError, match=said):
        VisionConfig(size, patch)
    assert VisionConfig(near, patch).grid == near // patch


def test_positions_of_the_same_grid_are_themselves_bit_for_bit() -> None:
    positions_PD = torch.randn(16, 20, dtype=torch.float64)
    assert torch.equal(interpolate_positions(positions_PD, 4, 4, 4), positions_PD)
    module = tower()
    assert module._positions(4, 4) is module.positions_TD


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (2, 3), (7, 4), (5, 11)])
def test_positions_of_another_grid_are_those_of_transformers(rows: int, columns: int) -> None:
    config = transformers.ViTConfig(
        hidden_size=20, num_hidden_layers=0, num_attention_heads=5, image_size=16, patch_size=4
    )
    theirs: Any = transformers.ViTModel(config, add_pooling_layer=False).double()
    module = tower()
    with torch.no_grad():
        theirs.embeddings.position_embeddings.copy_(module.positions_TD[None])
        patches = torch.zeros(1, 1 + rows * columns, 20, dtype=torch.float64)
        expected = theirs.embeddings.interpolate_pos_encoding(patches, rows * 4, columns * 4)[0]
        found = module._positions(rows, columns)
    assert_equal(found, expected)
    assert torch.equal(found[0], module.positions_TD[0])  # the class token has no place


def test_positions_between_learned_ones_are_the_cubic_kernel_by_hand() -> None:
    """Twice the grid: the ninth place lies at 8.5 / 2 - 0.5 = 3.75, between the learned places 2, 3, 4 and 5."""
    values = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = interpolate_positions(values.expand(8, 8).reshape(64, 1), 8, 16, 16).reshape(16, 16)
    a = -0.75
    near = [(a + 2) * t**3 - (a + 3) * t**2 + 1 for t in (0.75, 0.25)]
    far = [a * (t**3 - 5 * t**2 + 8 * t - 4) for t in (1.75, 1.25)]
    expected = far[0] * values[2] + near[0] * values[3] + near[1] * values[4] + far[1] * values[5]
    assert_equal(found[8, 8], expected)
    assert_equal(found, found[:1].expand(16, 16))


def test_class_pooling_is_the_first_token_of_the_whole() -> None:
    module = tower()
    assert_equal(module(pictures()), module.tokens(pictures())[:, 0])
    assert module.tokens(pictures()).shape == (3, 17, 20)


def test_mean_pooling_is_the_mean_over_patches() -> None:
    module = tower(pooling="mean")
    assert module.cls_D is None
    assert_equal(module(pictures()), module.tokens(pictures()).sum(1) / 16)


def test_attention_pooling_is_torchs_multi_head_attention_with_one_query_and_an_mlp() -> None:
    module = tower(pooling="map")
    pool = module.pool
    assert pool is not None
    attention = torch.nn.MultiheadAttention(20, 5, batch_first=True).double()
    with torch.no_grad():
        attention.in_proj_weight.copy_(pool.qkv.weight)
        attention.in_proj_bias.copy_(pool.qkv.bias)
        attention.out_proj.load_state_dict(pool.out.state_dict())
        hidden = module.tokens(pictures())
        pooled = attention(pool.probe_D.expand(3, 1, 20), hidden, hidden)[0][:, 0]
        assert_equal(module(pictures()), pooled + pool.mlp(pool.norm(pooled)))


def test_the_norm_before_the_blocks_is_there_where_it_is_asked_for() -> None:
    module = tower(pre_norm=True)
    assert module.norm_pre is not None
    rows = module.embed(pictures())
    with torch.no_grad():
        module.norm_pre.weight.fill_(1)
        module.norm_pre.bias.fill_(0)
    plain = module.embed(pictures())
    assert_equal(plain.mean(-1), torch.zeros(3, 17, dtype=torch.float64))
    assert float((rows - plain).abs().max()) > 1e-2
    assert tower().norm_pre is None


def test_every_patch_reaches_the_vector_of_its_picture_and_no_other() -> None:
    for pooling in ("cls", "mean", "map"):
        module = tower(pooling=pooling)
        images = pictures()
        before = module(images)
        for place in range(16):
            changed = images.clone()
            row, column = 4 * (place // 4), 4 * (place % 4)
            changed[1, :, row : row + 4, column : column + 4] += 1.0
            moved = (module(changed) - before).abs().amax(1)
            assert float(moved[1]) > 1e-6 and moved[[0, 2]].tolist() == [0, 0]


def test_uint8_pixels_are_scaled_and_normalised_and_floats_are_taken_as_prepared() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    module = Normalise(mean, std)
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = module(pixels)
    expected = torch.stack([(pixels[:, c].double() / 255 - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    again = torch.empty_like(found)
    assert module(pixels, again) is again and torch.equal(again, found)
    prepared = torch.randn(2, 3, 4, 5)
    assert module(prepared) is prepared
    assert module(pixels.to(memory_format=torch.channels_last)).is_contiguous()
    assert not module.state_dict()
