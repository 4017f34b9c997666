"""A StableDiffusionPipeline of diffusers at its smallest, every parameter random, as the library itself saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import transformers
from tiny_public import TEXT, WORDS, randomise, write_tokenizer

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
