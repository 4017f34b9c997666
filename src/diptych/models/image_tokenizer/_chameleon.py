"""transformers' ChameleonVQVAE: its settings and weights as ours, and the model where there is no decoder.

Chameleon (arXiv 2405.09818) takes its image tokens from a VQGAN in the layout of taming-transformers. transformers has
its encoder and codebook only, so pictures become codes and not pictures again; a folder that holds a `decoder.` in the
same layout too, as the released VQGAN does, gives a whole VQ model.

Quirks: beta stands on the codebook's term there (`legacy`); pixels are multiplied by 0.0078 and not by 2 / 255, so
white is 0.989; maps of attention are convolutions of 1 x 1; group norms have 32 groups always.

B batch, C channels, H height, W width, h rows and w columns of the grid of codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.data.batches.pictures import PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.layers.conv_autoencoder import AutoencoderConfig, ConvEncoder
from diptych.layers.normalise import Normalise
from diptych.layers.quantizer import Quantizer, QuantizerConfig
from diptych.models._public_folder import read_json, read_weights
from diptych.models._weight_tables import Entry, both, load_into, read
from diptych.models.image_tokenizer._conv_names import TAMING, side_entries
from diptych.models.image_tokenizer._tokenizer import TokenizerModel, TokenizerPredictor, at_least_one

MODEL_TYPE = "chameleon_vqgan"
PIXEL_FACTOR = 0.0078
"""Of transformers' image processor: pixels become value * 0.0078 - 1."""
GROUPS = 32


@dataclass(frozen=True)
class ChameleonConfig(ModelConfig):
    """Sizes of the encoder and of the codebook."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)


class VqEncoder(TokenizerModel):
    """Encoder and codebook without a decoder."""

    def __init__(self, config: ChameleonConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        latent, width = config.autoencoder.latent, config.quantizer.width
        self.config = config
        self.normalise = Normalise(mean, std)
        self.encoder = ConvEncoder(config.autoencoder)
        self.to_code = nn.Conv2d(latent, width, 1)
        self.quantizer = Quantizer(config.quantizer)
        self.from_code = nn.Conv2d(width, latent, 1)

    @property
    def vocabulary(self) -> int:
        return self.config.quantizer.codes

    def grid(self, image_size: int) -> tuple[int, int]:
        return self.config.autoencoder.grid(image_size, image_size)

    @torch.no_grad()
    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        self.config.autoencoder.grid(*pixels_BCHW.shape[2:])
        vectors_BCHW = self.to_code(self.encoder(self.normalise(at_least_one(pixels_BCHW))))
        return self.quantizer.nearest(vectors_BCHW.permute(0, 2, 3, 1))[: len(pixels_BCHW)]

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Always refused.

        Raises:
            ConfigError: there is no decoder.
        """
        raise ConfigError(
            "these weights have no decoder (transformers' ChameleonVQVAE leaves it out), so codes cannot become "
            "pictures: read a folder that holds the weights of the decoder too"
        )


class ChameleonEncoderPredictor(TokenizerPredictor[ChameleonConfig, VqEncoder]):
    """Makes codes of pictures."""

    VERBS = ("tokenize_image",)
    CONFIG = ChameleonConfig

    @classmethod
    def build(cls, config: ChameleonConfig, processor: PictureProcessor) -> VqEncoder:
        model = VqEncoder(config, processor.image.mean, processor.image.std)
        model.grid(processor.image.size)
        return model


@dataclass(frozen=True)
class ChameleonFolder:
    """What a folder holds.

    Attributes:
        state: our state dict, without what training alone keeps.
        whole: whether there is a decoder.
    """

    path: Path
    config: ChameleonConfig
    processor: PictureProcessor
    state: dict[str, Tensor]
    whole: bool

    def encoder_predictor(self) -> ChameleonEncoderPredictor:
        """The predictor of a folder without a decoder."""
        module = ChameleonEncoderPredictor.build(self.config, self.processor)
        self.fill(module, module.quantizer)
        return ChameleonEncoderPredictor(self.config, self.processor, module, self.path.name)

    def fill(self, module: nn.Module, quantizer: Quantizer) -> None:
        """Loads the weights into a module whose codebook is `quantizer`, strictly."""
        load_into(module, quantizer.state_dict(prefix="quantizer.") | self.state, self.path)


def read_chameleon(folder: Path) -> ChameleonFolder:
    """Sizes and weights of a ChameleonVQVAE folder.

    Raises:
        CheckpointError: a file or a weight is missing or left over.
        ConfigError: it has a part that is not done here.
    """
    config, image_size = sizes_of(read_json(folder / "config.json"), folder)
    public = read_weights(folder)
    state = read_state(public, config, folder)
    return ChameleonFolder(folder, config, processor_of(image_size), state, has_decoder(public))


def is_chameleon(folder: Path) -> bool:
    """Whether a folder's `config.json` is that of a ChameleonVQVAE."""
    return bool(read_json(folder / "config.json").get("model_type") == MODEL_TYPE)


def sizes_of(plain: Mapping[str, Any], where: Path) -> tuple[ChameleonConfig, int]:
    """The sizes that a ChameleonVQVAE's configuration (`vq_config` of Chameleon's own) describes; the picture's side.

    Raises:
        ConfigError: it has a part that is not done here.
    """
    for name, expected in {"double_latent": False, "in_channels": 3, "dropout": 0.0}.items():
        if plain.get(name, expected) != expected:
            raise ConfigError(f"{where}: {name} {plain[name]!r} is not done here, {expected!r} is")
    attends, size = plain.get("attn_type", "vanilla") == "vanilla", plain.get("resolution", 512)
    multipliers = plain.get("channel_multiplier", (1, 1, 2, 2, 4))
    at = plain.get("attn_resolutions") or ()
    autoencoder = AutoencoderConfig(
        channels=tuple(plain.get("base_channels", 128) * times for times in multipliers),
        blocks=plain.get("num_res_blocks", 2),
        latent=plain.get("latent_channels", 256),
        groups=GROUPS,
        attention=attends,
        attended=tuple(stage for stage in range(len(multipliers)) if attends and size // 2**stage in at),
    )
    codebook = QuantizerConfig(plain.get("num_embeddings", 8192), plain.get("embed_dim", 256), "gradient")
    return ChameleonConfig(autoencoder, codebook), size


def processor_of(image_size: int) -> PictureProcessor:
    """Shorter side to the size, centre cut out, pixels as Chameleon's processor has them.

    It resizes with Lanczos' kernel, and we with the bicubic one.
    """
    half = 1 / (255 * PIXEL_FACTOR)
    return PictureProcessor(
        ImagePreprocessing(image_size, "shorter_crop", mean=(half, half, half), std=(half, half, half))
    )


def read_state(public: Mapping[str, Tensor], config: ChameleonConfig, where: Path) -> dict[str, Tensor]:
    """Our state dict of a ChameleonVQVAE's, or of a whole VQGAN in that layout.

    Raises:
        CheckpointError: a weight is missing or left over.
    """
    flat = {name: _without_kernel(name, tensor) for name, tensor in public.items()}
    return read(entries(config.autoencoder, has_decoder(public)), flat, where)


def has_decoder(public: Mapping[str, Tensor]) -> bool:
    """Whether weights are those of a whole VQGAN."""
    return any(name.startswith("decoder.") for name in public)


def entries(config: AutoencoderConfig, decoder: bool) -> list[Entry]:
    """Every weight of the model and its name there."""
    found = [Entry("quantizer.codebook_KC", ("quantize.embedding.weight",))]
    found += both("to_code", "quant_conv") + both("from_code", "post_quant_conv")
    found += side_entries("encoder", config, TAMING)
    return found + (side_entries("decoder", config, TAMING) if decoder else [])


def _without_kernel(name: str, tensor: Tensor) -> Tensor:
    """Attention's 1 x 1 convolutions as the matrices that they are."""
    return tensor[:, :, 0, 0] if tensor.ndim == 4 and (".attn." in name or ".attn_1." in name) else tensor
