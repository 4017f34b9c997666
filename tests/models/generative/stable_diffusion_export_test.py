"""Stable Diffusion's export: diffusers makes the same pictures of it, and we read it back as the same model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from stable_diffusion_parity_test import pipeline
from tiny_public import CAPTIONS, randomise

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import normal_like
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.decoding.diffusion_sampler import SamplerConfig
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.text_transformer import TextConfig
from diptych.layers.unet import UNetConfig
from diptych.models.generative.stable_diffusion import Config, StableDiffusionPredictor
from diptych.models.image_tokenizer._kl_module import Latent
from diptych.objectives.diffusion import NoiseSchedule

HF: Any = diffusers
PROMPTS, SEEDS = ["a photo of the dog", "two small cat"], [3, 4]
TOKENIZER = Tokenizer.fit(CAPTIONS, 300)
SIZES = Config(
    UNetConfig(4, 4, (16, 24), 1, (True, False), (4, 2), 4, 24),
    AutoencoderConfig((8, 16), blocks=1, latent=4, groups=4),
    Latent(scaling=0.5),
    TextConfig(TOKENIZER.vocab_size, 14, 24, 2, 3, 40, padding="constant"),
    NoiseSchedule("linear", 500, 0.001, 0.02),
)


def made(**changes: Any) -> StableDiffusionPredictor:
    """Every parameter random."""
    config = replace(SIZES, **changes)
    constant = config.text.padding == "constant"
    image = ImagePreprocessing(16, mean=(0.5,) * 3, std=(0.5,) * 3, views=None)
    settings = ImageTextConfig(image, TextPreprocessing(14, pad_to_max=constant))
    processor = ImageTextProcessor(settings, TOKENIZER)
    module = StableDiffusionPredictor.build(config, processor)
    randomise(module)
    return StableDiffusionPredictor(config, processor, module.eval(), "small")


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": SamplerConfig("ddim", "leading", 1, clean_end=False)},
        {"sampler": SamplerConfig("pndm", "leading", 1), "prediction": "v_prediction"},
        {"sampler": SamplerConfig("dpm_solver", "linspace", 0), "schedule": NoiseSchedule("squaredcos_cap_v2", 400)},
    ],
    ids=["ddim", "pndm", "dpm_solver"],
)
def test_diffusers_makes_the_same_pictures(changes: dict[str, Any], tmp_path: Path) -> None:
    ours = made(**changes)
    folder = export(ours, tmp_path / "public")
    theirs = HF.StableDiffusionPipeline.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    latents = normal_like(SEEDS, (4, 8, 8))
    wanted = theirs(
        PROMPTS, latents=latents, num_inference_steps=5, guidance_scale=3.0, height=16, width=16, output_type="np"
    ).images
    found = ours.pictures(PROMPTS, SEEDS, ImageSampling(guidance=3.0, steps=5)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert float(np.std(wanted)) > 0.05 and np.mean((wanted == 0) | (wanted == 1)) < 0.9
    again = load(folder)
    assert isinstance(again, StableDiffusionPredictor)
    before, after = ours.module.state_dict(), again.module.state_dict()
    training = {"autoencoder.measured.moments_3"}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - training)
    assert (again.config.sampler, again.config.schedule) == (ours.config.sampler, ours.config.schedule)


def test_a_public_folder_comes_out_as_it_went_in(tmp_path: Path) -> None:
    pipeline(tmp_path, "ddim, v")
    out = export(str(tmp_path / "pipeline"), tmp_path / "out")
    first, second = (load(folder) for folder in (tmp_path / "pipeline", out))
    assert isinstance(first, StableDiffusionPredictor) and isinstance(second, StableDiffusionPredictor)
    assert first.config == second.config and first.processor.config == second.processor.config
    before, after = first.module.state_dict(), second.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    theirs = HF.StableDiffusionPipeline.from_pretrained(out)
    assert theirs.tokenizer("the dog").input_ids == first.processor.tokenizer.encode(["the dog"], 12)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": replace(SIZES.text, padding="ignored")}, "reads padding as text"),
        ({"sampler": SamplerConfig("ddim", eta=0.5)}, "no threshold or eta"),
        ({"autoencoder": AutoencoderConfig((16,), blocks=1, latent=4, groups=8, patch=2)}, "patch 1 to share it"),
    ],
)
def test_what_the_pipeline_cannot_express_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        export(made(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()
