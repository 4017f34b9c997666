"""One U-Net and one Stable Diffusion on both sides: diffusers' as shipped, and ours with their weights."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.unet import UNet
from diptych.models._public_folder import read_weights
from diptych.models._weight_tables import load_into, read
from diptych.models.generative._diffusers_unet import STEM, entries, read_sizes
from diptych.objectives.diffusion import NoiseSchedule

STEPS, TEXT = 1000, 256
PROMPTS = ["a red circle on a black background", "two small cats on a beach", "a dog", "the sea at night"]
CHANNELS = (64, 128, 256)


def schedule() -> NoiseSchedule:
    """Stable Diffusion's."""
    return NoiseSchedule(steps=STEPS)


def their_unet(diffusers: Any, side: int) -> Any:
    """Stable Diffusion 1's U-Net, narrower and of three levels, from one seed."""
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=side, block_out_channels=CHANNELS, layers_per_block=2, cross_attention_dim=TEXT,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=8,
    )  # fmt: skip


def our_unet(theirs: Any) -> UNet:
    """Ours with its weights, as a folder of it is read."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        theirs.save_pretrained(folder)
        config, _ = read_sizes(folder)
        unet = UNet(config)
        load_into(unet, read(entries(config), read_weights(folder, STEM), folder), folder)
    return unet


def their_pipeline(diffusers: Any, transformers: Any, folder: Path, side: int) -> Any:
    """A StableDiffusionPipeline around that U-Net, written to a folder; pictures of 4 x `side` pixels."""
    unet = their_unet(diffusers, side)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 64), layers_per_block=1, norm_num_groups=8, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, sample_size=4 * side,
    )  # fmt: skip
    words = _words(transformers, folder / "words")
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(words), hidden_size=TEXT, intermediate_size=4 * TEXT, num_hidden_layers=4,
            num_attention_heads=4, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        )
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False
    )
    whole = diffusers.StableDiffusionPipeline(
        vae.eval(), text.eval(), words, unet.eval(), scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    whole.set_progress_bar_config(disable=True)
    whole.save_pretrained(folder / "pipeline")
    return whole


def _words(transformers: Any, folder: Path) -> Any:
    """A tokenizer of a few words, with CLIP's start and end."""
    folder.mkdir()
    Tokenizer.fit(PROMPTS, 320).write(folder / "tokenizer.json")
    names = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<pad>"}
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder, model_max_length=77, **names)
