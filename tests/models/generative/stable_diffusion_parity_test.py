"""Our Stable Diffusion against diffusers' StableDiffusionPipeline: parts made here, every parameter random."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipeline import SCHEDULERS, pipeline

from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError, TextTooLong
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import normal_like
from diptych.data.pixels.decode import decode
from diptych.models.generative.stable_diffusion import StableDiffusionPredictor

PROMPTS = ["a photo of the dog", "two small cat on a beach"]
SEEDS = [3, 4]


@pytest.mark.parity("stable_diffusion", "diffusers StableDiffusionPipeline", "pictures")
@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_pictures_are_those_of_the_pipeline(tmp_path: Path, kind: str, guidance: float) -> None:
    theirs = pipeline(tmp_path, kind)
    ours = load(tmp_path / "pipeline")
    assert isinstance(ours, StableDiffusionPredictor)
    wanted = theirs(
        PROMPTS, latents=normal_like(SEEDS, (4, 8, 8)), num_inference_steps=6, guidance_scale=guidance, output_type="np"
    ).images
    found = ours.pictures(PROMPTS, SEEDS, ImageSampling(guidance=guidance, steps=6))
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), wanted, atol=2e-3)
    assert float(np.std(wanted)) > 0.05 and np.mean((wanted == 0) | (wanted == 1)) < 0.9  # there is something to see
    made = ours.generate_image(PROMPTS, SEEDS, ImageSampling(guidance=guidance, steps=6))
    np.testing.assert_allclose(np.stack([decode(one, "") for one in made]) / 255, wanted, atol=4e-3)


@pytest.mark.parity("stable_diffusion", "diffusers StableDiffusionPipeline", "text states")
def test_text_states_are_those_of_the_encoder(tmp_path: Path) -> None:
    theirs = pipeline(tmp_path)
    ours = load(tmp_path / "pipeline")
    read = theirs.tokenizer(PROMPTS, padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        wanted = theirs.text_encoder(read.input_ids).last_hidden_state
    told = ours.tell(PROMPTS)
    assert told.mask_B1T is None
    torch.testing.assert_close(told.states_BTX, wanted, rtol=1e-4, atol=1e-5)


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    pipeline(tmp_path)
    shutil.rmtree(tmp_path / "pipeline" / "vae")
    with pytest.raises(CheckpointError, match="lacks its part 'vae'"):
        load(tmp_path / "pipeline")


@pytest.mark.parametrize(
    ("part", "file", "change", "said"),
    [
        ("scheduler", "scheduler_config.json", {"_class_name": "EulerDiscreteScheduler"}, "EulerDiscreteScheduler"),
        ("scheduler", "scheduler_config.json", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ("scheduler", "scheduler_config.json", {"beta_schedule": "sigmoid"}, "beta_schedule"),
        ("text_encoder", "config.json", {"architectures": ["T5EncoderModel"]}, "T5EncoderModel"),
        ("unet", "config.json", {"cross_attention_dim": 7}, "width 7 does not fit a text of 24"),
    ],
)
def test_what_is_not_done_is_refused_by_name(
    tmp_path: Path, part: str, file: str, change: dict[str, Any], said: str
) -> None:
    pipeline(tmp_path)
    path = tmp_path / "pipeline" / part / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match=said):
        load(tmp_path / "pipeline")


def test_a_prompt_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    pipeline(tmp_path)
    with pytest.raises(TextTooLong, match="longer than the 12 tokens"):
        load(tmp_path / "pipeline").generate_image(["a " * 30])
