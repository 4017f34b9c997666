"""Feature maps: how large, what a cell sees, independent of the batch; backbones that have none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_backbones import mobilenet, pictures

from diptych.core.errors import CheckpointError, ConfigError
from diptych.layers.backbone_folder import read_backbone, tiny_vision_backbone
from diptych.layers.feature_map import BackboneMap, ConvMap, ConvMapConfig

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("halvings", "width", "cells"), [(1, 16, 16), (2, 16, 8), (3, 64, 4)])
def test_each_halving_halves_the_map(halvings: int, width: int, cells: int) -> None:
    found = ConvMap(ConvMapConfig(width, halvings), HALF, HALF)(pictures(32))
    assert found.shape == (3, width, cells, cells)


@torch.no_grad()
def test_a_map_depends_on_its_own_picture_alone() -> None:
    torch.manual_seed(0)
    network = ConvMap(ConvMapConfig(32, 2), HALF, HALF).double()
    together = network(pictures(32))
    alone = torch.cat([network(picture[None]) for picture in pictures(32)])
    torch.testing.assert_close(alone, together, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_a_change_in_a_corner_moves_the_map_there_most() -> None:
    torch.manual_seed(0)
    network = ConvMap(ConvMapConfig(32, 3), HALF, HALF)
    before, after = pictures(64)[:1], pictures(64)[:1].clone()
    after[..., :8, :8] = 255 - after[..., :8, :8]
    moved = (network(after) - network(before)).abs().mean(1)[0]
    # Convolutions carry a change a few cells on, and group norm a little of it everywhere.
    assert float(moved[4:, 4:].max()) < 0.2 * float(moved[:2, :2].min())


@torch.no_grad()
def test_a_backbones_map_is_its_last_hidden_state_of_normalised_pixels(tmp_path: Path) -> None:
    theirs = mobilenet(tmp_path)
    backbone = read_backbone(tmp_path, "vision")
    ours = BackboneMap(backbone, False, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    expected = theirs.mobilenet_v2(pixel_values=(pictures(32) / 255 - mean) / std).last_hidden_state
    torch.testing.assert_close(ours(pictures(32)), expected, rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in ours.parameters()) and not ours.train().training


def test_a_backbone_of_tokens_is_refused() -> None:
    with pytest.raises(CheckpointError, match="vit gives tokens and no feature map"):
        BackboneMap(tiny_vision_backbone(), True, HALF, HALF)(pictures(32))


@pytest.mark.parametrize(("width", "halvings"), [(64, 0), (8, 2), (20, 1), (24, 3)])
def test_sizes_that_cannot_be_are_refused(width: int, halvings: int) -> None:
    with pytest.raises(ConfigError, match=f"{width} channels after {halvings} halvings"):
        ConvMapConfig(width, halvings)
