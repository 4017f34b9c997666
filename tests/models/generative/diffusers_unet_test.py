"""Our U-Net against diffusers' UNet2DConditionModel: every parameter random, outputs and gradients, float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_public import randomise

from diptych.core.errors import ConfigError
from diptych.layers.unet import UNet
from diptych.models._public_folder import read_weights
from diptych.models._weight_tables import load_into, read
from diptych.models.generative._diffusers_unet import STEM, entries, read_sizes

BASE: dict[str, Any] = {
    "sample_size": 8, "block_out_channels": [16, 24], "layers_per_block": 1, "norm_num_groups": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "cross_attention_dim": 10, "attention_head_dim": 4,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "as in Stable Diffusion 1": {},
    "as in Stable Diffusion 2": {"use_linear_projection": True, "attention_head_dim": [2, 4], "layers_per_block": 2},
    "attention everywhere, deeper, three levels": {
        "block_out_channels": [8, 16, 24], "down_block_types": ["CrossAttnDownBlock2D"] * 3,
        "up_block_types": ["CrossAttnUpBlock2D"] * 3, "transformer_layers_per_block": 2, "in_channels": 7,
        "out_channels": 3,
    },
}  # fmt: skip


def saved(folder: Path, **changes: Any) -> UNet2DConditionModel:
    model = UNet2DConditionModel(**{**BASE, **changes}).double().eval()
    randomise(model)
    model.save_pretrained(folder)
    return model


@pytest.mark.parity("stable_diffusion", "diffusers UNet2DConditionModel", "outputs, every gradient")
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_diffusers(tmp_path: Path, kind: str) -> None:
    theirs = saved(tmp_path, **KINDS[kind])
    config, side = read_sizes(tmp_path)
    ours = UNet(config).double()
    load_into(ours, read(entries(config), read_weights(tmp_path, STEM), tmp_path), tmp_path)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, config.inputs, side, side, generator=generator, dtype=torch.float64)
    text = torch.randn(3, 5, 10, generator=generator, dtype=torch.float64)
    steps = torch.tensor([0, 17, 999])
    wanted = theirs(x, steps, text).sample
    found = ours(x, steps, text)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)  # the sinusoid is float32 on both sides
    weight = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    (wanted * weight).sum().backward()
    (found * weight).sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, gradient in read(entries(config), gradients, tmp_path).items():
        torch.testing.assert_close(ours.get_parameter(name).grad, gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_grids_that_do_not_halve_evenly_are_those_of_diffusers(tmp_path: Path) -> None:
    theirs = saved(tmp_path)
    config, _ = read_sizes(tmp_path)
    ours = UNet(config).double()
    load_into(ours, read(entries(config), read_weights(tmp_path, STEM), tmp_path), tmp_path)
    x, text = torch.randn(1, 4, 7, 5, dtype=torch.float64), torch.randn(1, 5, 10, dtype=torch.float64)
    with torch.no_grad():
        wanted, found = theirs(x, torch.tensor([3]), text).sample, ours(x, torch.tensor([3]), text)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}, "AttnDownBlock2D"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "does not mirror"),
        ({"cross_attention_dim": [10, 12]}, "differs from level to level"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type"),
    ],
)
def test_what_is_not_done_is_refused_by_name(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    saved(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match=said):
        read_sizes(tmp_path)
