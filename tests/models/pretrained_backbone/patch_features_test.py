"""Features of towers that are feature maps: a residual network, whose pooling has no weights and stays."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from diptych.models.pretrained_backbone._patch_features import PatchFeatures


def test_places_of_a_residual_network_are_its_features() -> None:
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    backbone: Any = transformers.AutoModel.from_config(config)
    tower = PatchFeatures(backbone, special=0)
    assert tower.shape(32) == (16, 12)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        whole = backbone(pixel_values=pixels / 255 * 2 - 1).last_hidden_state
        torch.testing.assert_close(tower(pixels)[:, 5], whole[:, :, 1, 1])  # the second row's second place of 4 x 4
