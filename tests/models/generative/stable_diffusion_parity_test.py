"""Our Stable Diffusion against diffusers' StableDiffusionPipeline: parts made here, every parameter random."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from tiny_public import TEXT, WORDS, randomise, write_tokenizer

from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError, TextTooLong
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import normal_like
from diptych.data.pixels.decode import decode
from diptych.models.generative.stable_diffusion import StableDiffusionPredictor

PROMPTS = ["a photo of the dog", "two small cat on a beach"]
SEEDS = [3, 4]
SCHEDULERS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "ddim, v": (diffusers.DDIMScheduler, {"clip_sample": False, "prediction_type": "v_prediction"}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True, "steps_offset": 1}),
    "dpm-solver": (diffusers.DPMSolverMultistepScheduler, {}),
}


def pipeline(folder: Path, kind: str = "ddim") -> Any:
    """A pipeline of random parts, and its folder."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 24), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=TEXT["hidden_size"],
        attention_head_dim=4,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, sample_size=16,
    )  # fmt: skip
    ids = {"bos_token_id": len(WORDS), "eos_token_id": len(WORDS) + 1, "pad_token_id": 0}
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT, **ids))
    for part in (unet, vae, text):
        randomise(part)
        part.eval()
    words = folder / "words"
    words.mkdir()
    write_tokenizer(words, start=True, pad="!")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(words, model_max_length=12)
    made, settings = SCHEDULERS[kind]
    scheduler = made(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **settings)
    whole = diffusers.StableDiffusionPipeline(
        vae, text, tokenizer, unet, scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    whole.set_progress_bar_config(disable=True)
    whole.save_pretrained(folder / "pipeline")
    return whole


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
