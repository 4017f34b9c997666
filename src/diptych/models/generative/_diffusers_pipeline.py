"""diffusers' StableDiffusionPipeline folders: a model_index.json beside a folder for each part.

unet/, vae/, text_encoder/, tokenizer/, scheduler/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from diptych.core.errors import CheckpointError, ConfigError
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.decoding.diffusion_sampler import SamplerConfig
from diptych.layers.text_transformer import TextConfig
from diptych.models._public_folder import activation, read_json, read_weights
from diptych.models._weight_tables import load_into, read, transformers_text
from diptych.models.generative import _diffusers_unet as unet
from diptych.models.generative._latent_module import Config, LatentDiffusion
from diptych.models.image_tokenizer._diffusers_kl import read_sizes, read_state
from diptych.objectives.diffusion import Betas, NoiseSchedule, Prediction

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
MEAN = STD = (0.5, 0.5, 0.5)

KINDS: dict[str, Literal["ddim", "ddpm", "dpm_solver", "pndm"]] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpm_solver",
    "PNDMScheduler": "pndm",
}
_SCHEDULER_ONLY: dict[str, Any] = {
    "trained_betas": None, "thresholding": False, "rescale_betas_zero_snr": False, "skip_prk_steps": True,
    "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False, "use_lu_lambdas": False,
    "use_flow_sigmas": False, "algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint",
    "lower_order_final": True, "euler_at_final": False, "final_sigmas_type": "zero", "variance_type": None,
    "clip_sample_range": 1.0,
}  # fmt: skip


def read_config(folder: Path) -> tuple[Config, int]:
    """Sizes of every part, and the side of the pictures.

    Raises:
        CheckpointError: a part is missing, or its configuration is damaged.
        ConfigError: a part is of a kind that is not done here, or the parts do not fit one another.
    """
    for part in PARTS:
        if not (folder / part).is_dir():
            raise CheckpointError(f"{folder} lacks its part '{part}': a pipeline has {', '.join(PARTS)}")
    plain = read_json(folder / "scheduler" / "scheduler_config.json")
    sizes, side = unet.read_sizes(folder / "unet")
    autoencoder = read_sizes(folder / "vae")
    config = Config(
        sizes,
        autoencoder.autoencoder,
        autoencoder.latent,
        _text(folder / "text_encoder"),
        _schedule(plain, folder),
        _prediction(plain, folder),
        _sampler(plain, folder),
    )
    return config, side * autoencoder.autoencoder.factor


def read_processor(folder: Path, config: Config, image_size: int) -> ImageTextProcessor:
    """Pictures from -1 to 1, texts padded to the context.

    Raises:
        DataError: the tokenizer's files are missing or damaged.
    """
    tokenizer = Tokenizer.from_folder(folder / "tokenizer")
    image = ImagePreprocessing(image_size, mean=MEAN, std=STD)
    return ImageTextProcessor(
        ImageTextConfig(image, TextPreprocessing(config.text.context, pad_to_max=True)), tokenizer
    )


def load_weights(module: LatentDiffusion, folder: Path, config: Config) -> None:
    """Every part's weights.

    Raises:
        CheckpointError: a weight is missing, left over, or of another shape.
    """
    state = read(
        unet.entries(config.unet), read_weights(folder / "unet", unet.STEM, f"{unet.STEM}.bin"), folder / "unet"
    )
    load_into(module.unet, state, folder / "unet")
    vae = folder / "vae"
    load_into(module.autoencoder, read_state(vae, read_sizes(vae), module.autoencoder.state_dict()), vae)
    text = folder / "text_encoder"
    found = read(transformers_text(config.text.depth), _with_prefix(read_weights(text)), text)
    load_into(module.text, {name.removeprefix("text."): tensor for name, tensor in found.items()}, text)


def _with_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that CLIPTextModel has in most folders; some versions leave their first word out."""
    first = "text_model."
    return {name if name.startswith(first) else first + name: tensor for name, tensor in weights.items()}


def _text(folder: Path) -> TextConfig:
    plain = read_json(folder / "config.json")
    kind = (plain.get("architectures") or ["CLIPTextModel"])[0]
    if kind not in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        raise ConfigError(f"{folder}: a text encoder of the kind {kind} is not done here, CLIPTextModel is")
    return TextConfig(
        vocab_size=plain.get("vocab_size", 49408),
        context=plain.get("max_position_embeddings", 77),
        width=plain.get("hidden_size", 512),
        depth=plain.get("num_hidden_layers", 12),
        heads=plain.get("num_attention_heads", 8),
        hidden=plain.get("intermediate_size", 2048),
        causal=True,
        padding="constant",
        activation=activation(plain.get("hidden_act", "quick_gelu")),
        eps=plain.get("layer_norm_eps", 1e-5),
    )


def _schedule(plain: dict[str, Any], folder: Path) -> NoiseSchedule:
    kinds: dict[str, Betas] = {name: name for name in ("scaled_linear", "linear", "squaredcos_cap_v2")}
    kind = plain.get("beta_schedule", "linear")
    if kind not in kinds:
        raise ConfigError(f"{folder}: beta_schedule = {kind!r} is not done here, {', '.join(kinds)} are")
    return NoiseSchedule(
        kinds[kind], plain.get("num_train_timesteps", 1000), plain.get("beta_start", 1e-4), plain.get("beta_end", 0.02)
    )


def _prediction(plain: dict[str, Any], folder: Path) -> Prediction:
    kinds: dict[str, Prediction] = {name: name for name in ("epsilon", "v_prediction", "sample")}
    kind = plain.get("prediction_type", "epsilon")
    if kind not in kinds:
        raise ConfigError(f"{folder}: prediction_type = {kind!r} is not done here, {', '.join(kinds)} are")
    return kinds[kind]


def _sampler(plain: dict[str, Any], folder: Path) -> SamplerConfig:
    name = plain.get("_class_name")
    if name not in KINDS:
        raise ConfigError(f"{folder}: a {name} is not done here, {', '.join(KINDS)} are")
    kind = KINDS[name]
    for setting, value in _SCHEDULER_ONLY.items():
        if value is not None and plain.get(setting, value) != value:
            raise ConfigError(f"{folder}: {setting} = {plain[setting]!r} is not done here, {value!r} is")
    clips = kind in ("ddim", "ddpm") and bool(plain.get("clip_sample", True))
    return SamplerConfig(
        kind,
        plain.get("timestep_spacing", "linspace" if kind == "dpm_solver" else "leading"),
        plain.get("steps_offset", 0),
        bool(plain.get("set_alpha_to_one", kind == "ddim")),
        clip=clips,
    )
