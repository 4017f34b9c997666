"""The discriminator and the perceptual networks: what a patch sees, what is constant, folders, bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from diptych.core.errors import CheckpointError, ConfigError
from diptych.layers.patch_discriminator import DiscriminatorConfig, PatchDiscriminator
from diptych.layers.perceptual_network import BackboneFeatures, RandomFeatures


def test_with_three_halvings_a_patch_sees_seventy_pixels() -> None:
    """As pix2pix says of its discriminator; group norms made pointwise, for they see everything."""
    model = PatchDiscriminator(DiscriminatorConfig(8, 3, groups=4)).double()
    for index, layer in enumerate(model.layers):
        if isinstance(layer, nn.GroupNorm):
            model.layers[index] = nn.Identity()
    pixels = torch.randn(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = model(pixels)
    assert logits.shape == (1, 1, 14, 14)
    logits[0, 0, 7, 7].backward()
    assert pixels.grad is not None
    seen = torch.nonzero(pixels.grad[0].abs().sum(0) > 0)
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


def test_held_constant_it_says_the_same_and_learns_nothing() -> None:
    model = PatchDiscriminator(DiscriminatorConfig(8, 1, groups=2))
    pixels = torch.randn(2, 3, 16, 16, requires_grad=True)
    assert torch.equal(model.as_constant(pixels), model(pixels))
    model.as_constant(pixels).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert pixels.grad is not None and float(pixels.grad.abs().sum()) > 0
    together = model(pixels)
    torch.testing.assert_close(model(pixels[1:]), together[1:])


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one halving"):
        DiscriminatorConfig(16, 0)
    with pytest.raises(ConfigError, match="divisible into the groups"):
        DiscriminatorConfig(12, 2, groups=8)
    with pytest.raises(ConfigError, match="23 pixels is too small for 3 halvings"):
        DiscriminatorConfig().require_room(23)


def test_random_features_are_the_same_always_and_have_nothing_to_train() -> None:
    torch.manual_seed(1)
    one = RandomFeatures((4, 6))
    torch.manual_seed(2)
    other = RandomFeatures((4, 6))
    pixels = torch.randn(2, 3, 8, 8)
    maps = one(pixels)
    assert all(torch.equal(a, b) for a, b in zip(maps, other(pixels), strict=True))
    first = F.relu(F.conv2d(pixels, one.get_buffer("weight0"), padding=1))
    second = F.relu(F.conv2d(F.avg_pool2d(first, 2), one.get_buffer("weight1"), padding=1))
    torch.testing.assert_close(maps[0], first.flatten(2))
    torch.testing.assert_close(maps[1], second.flatten(2))
    assert list(one.parameters()) == [] and one.state_dict() == {}


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_backbones_hidden_states_are_its_features(tmp_path: Path, kind: str) -> None:
    if kind == "resnet":
        config: transformers.PreTrainedConfig = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"
        )
    else:
        config = transformers.ViTConfig(
            hidden_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
        )
    model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(tmp_path)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    network = BackboneFeatures.read(tmp_path, mean, std)
    share = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        prepared = (share - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        expected = model(pixel_values=prepared, output_hidden_states=True).hidden_states
    pixels = (2 * share - 1).requires_grad_()
    found = network(pixels)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        flat = theirs.flatten(2) if theirs.ndim == 4 else theirs.transpose(1, 2)
        torch.testing.assert_close(ours, flat, rtol=1e-4, atol=1e-5)
    found[-1].square().sum().backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None and float(pixels.grad.abs().sum()) > 0
    assert list(network.parameters()) == [] and network.state_dict() == {}
    assert network.double()(pixels.double())[0].dtype == torch.float64


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no transformers folder"):
        BackboneFeatures.read(tmp_path, (0.5,) * 3, (0.5,) * 3)
