"""A backbone's cells as patches: equal to the backbone's own map, frozen, and refused where they do not fit."""

from __future__ import annotations

import pytest
import torch
from tiny_backbones import mobilenet
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.backbone_folder import read_backbone
from diptych.layers.feature_map import BackboneMap
from diptych.layers.vision_transformer import VisionConfig, VisionTransformer

SIDE, STRIDE = 64, 32


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> BackboneMap:
    folder = tmp_path_factory.mktemp("backbone")
    mobilenet(folder)
    return BackboneMap(read_backbone(folder, "vision"), False, (0.5,) * 3, (0.5,) * 3)


def tower(backbone: BackboneMap | None, channels: int, patch_size: int = STRIDE) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(VisionConfig(SIDE, patch_size, 32, 1, 2, 64, backbone_channels=channels), backbone)


def test_patches_are_the_cells_of_the_map(backbone: BackboneMap) -> None:
    image = torch.randn(3, 3, SIDE, SIDE)
    map_BCHW = backbone.backbone(pixel_values=image).last_hidden_state
    channels = map_BCHW.shape[1]
    vision = tower(backbone, channels)
    patches = vision.patches
    cells = torch.stack([map_BCHW[:, :, row, column] for row in (0, 1) for column in (0, 1)], 1)
    expected = F.linear(F.layer_norm(cells, (channels,)), patches.project.weight, patches.project.bias)
    torch.testing.assert_close(patches(image), expected)
    kept = torch.tensor([[0, 3], [1, 2], [2, 3]])
    torch.testing.assert_close(patches(image, kept), expected.gather(1, kept[..., None].expand(-1, -1, 32)))
    assert patches(image[:0]).shape == (0, 4, 32)


def test_the_backbone_is_frozen_and_the_rest_is_trained(backbone: BackboneMap) -> None:
    image = torch.randn(2, 3, SIDE, SIDE)
    vision = tower(backbone, backbone(image).shape[1]).train()
    vision(image).square().sum().backward()
    for name, parameter in vision.named_parameters():
        assert (parameter.grad is None) == name.startswith("patches.backbone."), name


@pytest.mark.slow
def test_a_compiled_pass_gives_the_same(backbone: BackboneMap) -> None:
    image = torch.randn(5, 3, SIDE, SIDE)
    vision = tower(backbone, backbone(image).shape[1])
    eager = vision(image)
    vision.patches.compile_frozen(4)
    torch.testing.assert_close(vision(image), eager, rtol=1e-3, atol=1e-4)
    assert not any("fast" in name for name in vision.state_dict())


def test_what_does_not_fit_is_refused(backbone: BackboneMap) -> None:
    image = torch.randn(1, 3, SIDE, SIDE)
    channels = backbone(image).shape[1]
    with pytest.raises(ConfigError, match=f"gives {channels} channels in 2 x 2 cells"):
        tower(backbone, channels + 1)(image)
    with pytest.raises(ConfigError, match=r"made for .* in 4 x 4"):
        tower(backbone, channels, 16)(image)
    with pytest.raises(ConfigError, match="none was given"):
        tower(None, channels)
