"""Stable Diffusion written as diffusers' StableDiffusionPipeline folder: the way back of _diffusers_pipeline.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from diptych.capabilities.card import CARD, begun
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.layers.text_transformer import TextConfig
from diptych.models._public_folder import activation_name, write_json
from diptych.models._weight_tables import Entry, transformers_text, write
from diptych.models.generative import _diffusers_unet as unet
from diptych.models.generative._diffusers_pipeline import KINDS, MEAN, PARTS, STD
from diptych.models.generative._latent_module import Config, LatentDiffusion
from diptych.models.image_tokenizer._diffusers_kl import KlSizes
from diptych.models.image_tokenizer._diffusers_kl import write_folder as write_autoencoder

_CLASS = "StableDiffusionPipeline"
_USAGE = """
```python
from diffusers import StableDiffusionPipeline
pipeline = StableDiffusionPipeline.from_pretrained("this/folder")
pipeline("a text", num_inference_steps={steps}, guidance_scale={guidance}, height={side}, width={side}).images[0]
```
"""


def write_folder(module: LatentDiffusion, processor: ImageTextProcessor, name: str, folder: Path) -> None:
    """Every part, the index of them, and the card.

    Raises:
        ConfigError: the model has a part that StableDiffusionPipeline does not.
    """
    config, side = module.config, processor.config.image.size
    _check(config, processor)
    for part in PARTS:
        (folder / part).mkdir()
    scaling, vae = float(module.autoencoder.scale), KlSizes(config.autoencoder, config.latent, side)
    write_autoencoder(folder / "vae", vae, scaling, module.autoencoder.state_dict())
    write_json(folder / "unet" / "config.json", unet.described(config.unet, module.autoencoder.grid(side)[0]))
    _save(module.unet.state_dict(), unet.entries(config.unet), folder / "unet" / f"{unet.STEM}.safetensors")
    text = {f"text.{name}": one for name, one in module.text.state_dict().items()}
    _save(text, transformers_text(config.text.depth), folder / "text_encoder" / "model.safetensors")
    write_json(folder / "text_encoder" / "config.json", _text(config.text, processor))
    _write_tokenizer(processor, folder / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", _scheduler(config))
    write_json(folder / "model_index.json", _index(config))
    count = sum(one.numel() for one in module.parameters())
    usage = _USAGE.format(steps=config.steps, guidance=config.guidance, side=side)
    (folder / CARD).write_text(begun(name, _CLASS, count, "diffusers", usage, "text-to-image"), encoding="utf-8")


def _check(config: Config, processor: ImageTextProcessor) -> None:
    image, sampler = processor.config.image, config.sampler
    if config.text.padding != "constant" or not config.text.causal:
        raise ConfigError(
            f"diffusers' {_CLASS} reads padding as text, and this model was trained to ignore it: train it with "
            f"--model.text.padding constant to share it"
        )
    if image.mean != MEAN or image.std != STD:
        raise ConfigError(f"{_CLASS} takes values from -1 to 1, and this model's mean is {image.mean}, std {image.std}")
    if config.unet.added or config.unet.levels or sampler.threshold or sampler.eta:
        raise ConfigError(
            f"diffusers' {_CLASS} has no second time, no added vector, and no threshold or eta of its own: a run's own "
            f"folder is what there is to share"
        )


def _save(state: dict[str, Any], entries: list[Entry], path: Path) -> None:
    ours = {name: one.detach().cpu().float() for name, one in state.items()}
    save_file(write(entries, ours), path, metadata={"format": "pt"})


def _text(text: TextConfig, processor: ImageTextProcessor) -> dict[str, Any]:
    tokens = processor.tokenizer
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context,
        "hidden_size": text.width,
        "num_hidden_layers": text.depth,
        "num_attention_heads": text.heads,
        "intermediate_size": text.hidden,
        "hidden_act": activation_name(text.activation),
        "layer_norm_eps": text.eps,
        "bos_token_id": tokens.start_id,
        "eos_token_id": tokens.end_id,
        "pad_token_id": tokens.pad_id,
        "dtype": "float32",
    }


def _write_tokenizer(processor: ImageTextProcessor, folder: Path) -> None:
    tokens = processor.tokenizer
    tokens.write(folder / "tokenizer.json")
    named = {"bos_token": tokens.start_id, "eos_token": tokens.end_id, "pad_token": tokens.pad_id}
    spelled = {role: tokens.backend.id_to_token(index) for role, index in named.items() if index is not None}
    longest = processor.config.text.max_length
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, **spelled}
    write_json(folder / "tokenizer_config.json", plain)


def _scheduler(config: Config) -> dict[str, Any]:
    schedule, sampler = config.schedule, config.sampler
    plain: dict[str, Any] = {
        "_class_name": _scheduler_class(config),
        "num_train_timesteps": schedule.steps,
        "beta_schedule": schedule.kind,
        "beta_start": schedule.first,
        "beta_end": schedule.last,
        "prediction_type": config.prediction,
        "timestep_spacing": sampler.spacing,
        "steps_offset": sampler.offset,
    }
    if sampler.kind in ("ddim", "ddpm"):
        plain["clip_sample"] = sampler.clip
    if sampler.kind in ("ddim", "pndm"):
        plain["set_alpha_to_one"] = sampler.clean_end
    if sampler.kind == "pndm":
        plain["skip_prk_steps"] = True
    return plain


def _scheduler_class(config: Config) -> str:
    return next(name for name, kind in KINDS.items() if kind == config.sampler.kind)


def _index(config: Config) -> dict[str, Any]:
    return {
        "_class_name": _CLASS,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "scheduler": ["diffusers", _scheduler_class(config)],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
