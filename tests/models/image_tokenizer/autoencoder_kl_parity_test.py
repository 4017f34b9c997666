"""Our KL autoencoder against diffusers' AutoencoderKL: every parameter random, float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_public import assert_equal, compare_gradients, insensitive, photograph, pixels, randomise
from torch import Tensor

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError
from diptych.core.seeding import normal_like
from diptych.models.image_tokenizer._diffusers_kl import entries, read_sizes
from diptych.models.image_tokenizer._kl_module import AutoencoderKl
from diptych.models.image_tokenizer.autoencoder_kl import AutoencoderKlPredictor, weights_from
from diptych.objectives.kl import standard_normal_kl

SIZES: dict[str, dict[str, Any]] = {
    "one stage": {"block_out_channels": (8,), "layers_per_block": 1, "latent_channels": 3},
    "stages": {"block_out_channels": (8, 16), "layers_per_block": 2, "latent_channels": 4, "scaling_factor": 0.3},
    "no attention": {
        "block_out_channels": (8, 8, 12), "layers_per_block": 1, "latent_channels": 2,
        "mid_block_add_attention": False,
    },
    "no maps": {
        "block_out_channels": (8, 8), "layers_per_block": 1, "latent_channels": 6, "use_quant_conv": False,
        "use_post_quant_conv": False, "scaling_factor": 1.5305, "shift_factor": 0.0609,
    },
}  # fmt: skip
WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny_kl(folder: Path, name: str = "stages") -> Any:
    """An AutoencoderKL in float64, and its folder in float32."""
    sizes = SIZES[name]
    stages = len(sizes["block_out_channels"])
    model: Any = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * stages, up_block_types=("UpDecoderBlock2D",) * stages,
        norm_num_groups=4, sample_size=16, **sizes,
    )  # fmt: skip
    randomise(model)
    model.eval().save_pretrained(folder)
    return model.double()


def both(folder: Path, name: str) -> tuple[AutoencoderKl, Any]:
    theirs = tiny_kl(folder, name)
    return weights_from(folder).module.double(), theirs


@pytest.mark.parity("autoencoder_kl", "diffusers AutoencoderKL", "moments, draws, pictures")
@pytest.mark.parametrize("name", SIZES)
def test_moments_mode_draws_and_pictures_are_those_of_diffusers(tmp_path: Path, name: str) -> None:
    ours, theirs = both(tmp_path, name)
    images, seeds = pixels(3, 16, 24), (5, 6, 7)
    with torch.no_grad():
        expected = theirs.encode(images).latent_dist
        mean, log_variance = ours.encode(images)
        assert_equal(mean, expected.mean)
        assert_equal(log_variance, expected.logvar)
        assert_equal(standard_normal_kl(mean, log_variance), expected.kl())
        shift, scale = theirs.config.shift_factor or 0.0, theirs.config.scaling_factor
        assert_equal(ours.latents(images), (expected.mode() - shift) * scale)
        drawn = expected.mean + expected.std * normal_like(seeds, mean.shape[1:]).double()
        assert_equal(ours.latents(images, seeds), (drawn - shift) * scale)
        decoded = theirs.decode(drawn).sample
        assert_equal(ours.decode(drawn), decoded)
        assert_equal(ours.pixels((drawn - shift) * scale), (decoded / 2 + 0.5).clamp(0, 1))
        assert float(expected.logvar.std()) > 0.1, "variances that are all alike test nothing"


@pytest.mark.parity("autoencoder_kl", "diffusers AutoencoderKL", "every gradient")
@pytest.mark.parametrize("name", SIZES)
def test_the_gradient_of_every_parameter_is_that_of_diffusers(tmp_path: Path, name: str) -> None:
    ours, theirs = both(tmp_path, name)
    images, seeds = pixels(3, 16, 16), (1, 2, 3)
    dist = theirs.encode(images).latent_dist
    drawn = dist.mean + dist.std * normal_like(seeds, dist.mean.shape[1:]).double()
    expected = (theirs.decode(drawn).sample - images).abs().mean() + 1e-2 * dist.kl().mean()
    expected.backward()
    found = ours(images, seeds)
    kl = standard_normal_kl(found.mean_BChw, found.log_variance_BChw)
    loss = (found.pixels_BCHW - images).abs().mean() + 1e-2 * kl.mean()
    loss.backward()
    assert_equal(loss, expected)
    compare_gradients(ours, theirs, entries(read_sizes(tmp_path)))


def test_no_parameter_is_without_effect(tmp_path: Path) -> None:
    ours, _ = both(tmp_path, "stages")
    images = pixels(2, 16, 16)

    def outputs() -> Tensor:
        found = ours(images, (1, 2))
        return torch.cat([found.pixels_BCHW.flatten(), found.log_variance_BChw.flatten()]).detach()

    assert insensitive(ours, outputs) == []


def test_load_finds_the_file_and_reads_the_names_of_older_folders(tmp_path: Path) -> None:
    theirs = tiny_kl(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in load_file(tmp_path / WEIGHTS).items():
        for new, older in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{older}.")
        renamed[name] = tensor
    save_file(renamed, tmp_path / WEIGHTS)
    predictor = load(tmp_path)
    assert isinstance(predictor, AutoencoderKlPredictor)
    assert predictor.verbs == {"reconstruct"}
    with torch.no_grad():
        expected = theirs.encode(pixels(2, 16, 16)).latent_dist.mode() * 0.3
    assert_equal(predictor.module.double().latents(pixels(2, 16, 16)), expected)


@pytest.mark.parametrize("name", SIZES)
def test_an_exported_folder_is_read_by_diffusers_and_by_us(tmp_path: Path, name: str) -> None:
    tiny_kl(tmp_path / "in", name)
    predictor = weights_from(tmp_path / "in")
    export(predictor, tmp_path / "out")
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path / "out")
    assert theirs.config.scaling_factor == predictor.config.latent.scaling
    before, after = (load_file(tmp_path / side / WEIGHTS) for side in ("in", "out"))
    assert before.keys() == after.keys() and all(torch.equal(before[one], after[one]) for one in before)
    again = weights_from(tmp_path / "out")
    (one,), (other,) = (model.reconstruct([photograph()]) for model in (predictor, again))
    assert (one.pixels_HWC == other.pixels_HWC).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents_mean": [0.0] * 4}, "for every latent channel is not done here"),
        ({"act_fn": "relu"}, "act_fn 'relu' is not done here"),
        ({"down_block_types": ["AttnDownEncoderBlock2D", "DownEncoderBlock2D"]}, "AttnDownEncoderBlock2D are not done"),
    ],
)
def test_a_folder_with_a_part_that_is_not_here_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tiny_kl(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        weights_from(tmp_path)


def test_weights_that_lack_something_are_refused(tmp_path: Path) -> None:
    tiny_kl(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    save_file({name: tensor for name, tensor in state.items() if name != "quant_conv.bias"}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"lacks the weight quant_conv\.bias"):
        weights_from(tmp_path)
    save_file(state | {"quant_conv.bias": state["quant_conv.bias"][:2].clone()}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"to_latent\.bias is not of the shape"):
        weights_from(tmp_path)
