"""VQ: pictures as grids of codes, and back.

van den Oord et al. 2017, "Neural Discrete Representation Learning", arXiv 1711.00937 (VQ-VAE). An encoder gives a grid
of vectors, each is replaced by the nearest code of a learned codebook, and a decoder makes the picture again:
L = |x - x'|^2 + |sg(z) - e|^2 + beta |z - sg(e)|^2, with the gradient of the decoder's input passed straight through
to the encoder (quantizer.py). Trained, it is frozen and used by others through three methods of `VqModel`:
`codes(pixels)`, `decode(codes)` and `grid(image_size)`.

Departures: the convolutions are those of VQGAN (as in diffusers' VQModel), not the paper's; squared errors are means
over pixels and channels, and over positions and widths of codes, as in released code, so beta means the same at every
size; by default the codebook learns by moving averages (appendix A.1 of the paper) and codes that nobody chooses are
restarted from the encoder's vectors (Dhariwal et al. 2020, "Jukebox", arXiv 2005.00341).

B batch, N pictures, C channels, H height, W width, h rows and w columns of the grid of codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from diptych.capabilities.load import folder_of
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part
from diptych.core.sample import Sample
from diptych.core.task import Task
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.layers.conv_autoencoder import AutoencoderConfig, ConvDecoder, ConvEncoder
from diptych.layers.normalise import Normalise
from diptych.layers.quantizer import Quantizer, QuantizerConfig
from diptych.models.image_tokenizer import _chameleon as chameleon
from diptych.models.image_tokenizer._diffusers import VqSizes, read_sizes, read_state, write_folder
from diptych.models.image_tokenizer._tokenizer import TokenizerModel, TokenizerPredictor, at_least_one, checked_codes

VERBS = ("reconstruct", "tokenize_image")
READS = ("VQModel", "ChameleonVQVAE")

MEAN = STD = (0.5, 0.5, 0.5)
"""Of the pixels of a fresh model: values from -1 to 1."""


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes of the convolutions and of the codebook.

    Attributes:
        reconstruction: the distance of a picture and its reconstruction: "l2", squared, as in the paper; "l1",
            absolute, which blurs less.
        scaling: by what a latent diffusion model multiplies the vectors; kept with the weights, no part of this model.
    """

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    reconstruction: Literal["l2", "l1"] = "l2"
    scaling: float = 0.18215

    @classmethod
    def ldm_f4(cls) -> Config:
        """VQ-f4 of latent diffusion (Rombach et al. 2021, arXiv 2112.10752): 256 pixels to 64 x 64 of 8192 codes."""
        return cls(AutoencoderConfig((128, 256, 512), blocks=2, latent=3), QuantizerConfig(8192, 3, "gradient"))

    @classmethod
    def tiny(cls, codes: int = 256) -> Config:
        """64 pixels to 8 x 8 codes; one stage on squares of 8 x 8 pixels, which learns most in a few minutes."""
        return cls(
            AutoencoderConfig((64,), blocks=1, latent=64, groups=8, attention=False, patch=8),
            QuantizerConfig(codes, 32, restart_every=10),
        )


class Reconstruction(NamedTuple):
    """One pass over pictures: prepared pixels, and codes and distances as `Quantized` has them."""

    pixels_BCHW: Tensor
    codes_Bhw: Tensor
    codebook_B: Tensor
    commitment_B: Tensor


class VqModel(TokenizerModel):
    """Encoder, codebook, decoder; `codes`, `decode` and `grid` are what others use of it."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, config: Config, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        super().__init__()
        latent, width = config.autoencoder.latent, config.quantizer.width
        self.config = config
        self.normalise = Normalise(mean, std)
        self.encoder = ConvEncoder(config.autoencoder)
        self.to_code = nn.Conv2d(latent, width, 1)
        self.quantizer = Quantizer(config.quantizer)
        self.from_code = nn.Conv2d(width, latent, 1)
        self.decoder = ConvDecoder(config.autoencoder)
        for name, values in (("mean_C11", mean), ("std_C11", std)):
            self.register_buffer(name, torch.tensor(tuple(values))[:, None, None], persistent=False)

    @property
    def vocabulary(self) -> int:
        return self.config.quantizer.codes

    def grid(self, image_size: int) -> tuple[int, int]:
        return self.config.autoencoder.grid(image_size, image_size)

    @torch.no_grad()
    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        vectors_BhwC = self.encode(at_least_one(pixels_BCHW)).permute(0, 2, 3, 1)
        return self.quantizer.nearest(vectors_BhwC.to(self.quantizer.codebook_KC.dtype))[: len(pixels_BCHW)]

    @torch.no_grad()
    def decode(self, codes_Bhw: Tensor) -> Tensor:
        checked_codes(codes_Bhw, self.vocabulary)
        pixels_BCHW = self.decode_vectors(self.quantizer.lookup(at_least_one(codes_Bhw)).permute(0, 3, 1, 2))
        return (pixels_BCHW * self.std_C11 + self.mean_C11).clamp(0, 1)[: len(codes_Bhw)]

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """The vectors [B, C, h, w] before they are replaced by codes."""
        self.config.autoencoder.grid(*pixels_BCHW.shape[2:])
        out: Tensor = self.to_code(self.encoder(self.normalise(pixels_BCHW)))
        return out

    def decode_vectors(self, vectors_BCHW: Tensor) -> Tensor:
        """Prepared pixels of vectors in the places of codes."""
        out: Tensor = self.decoder(self.from_code(vectors_BCHW))
        return out

    def forward(self, pixels_BCHW: Tensor, seeds: Sequence[int] | None = None) -> Reconstruction:
        """A reconstruction with gradients; `seeds`, one a picture, for restarts."""
        quantized = self.quantizer(self.encode(pixels_BCHW), seeds)
        pixels = self.decode_vectors(quantized.vectors_BCHW)
        return Reconstruction(pixels, quantized.codes_Bhw, quantized.codebook_B, quantized.commitment_B)


class VqTask(Task[PictureBatch]):
    """Reconstruction, codebook (where it learns by gradient) and commitment, each a mean over pictures."""

    processor: PictureProcessor

    def __init__(self, config: Config, processor: PictureProcessor) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.model = VqPredictor.build(config, processor)

    def losses(self, batch: PictureBatch, phase: str = "main") -> Losses:
        target_BCHW = self.model.normalise(batch.pixels_BCHW)
        found = self.model(target_BCHW, batch.seeds)
        error_BCHW = found.pixels_BCHW.to(target_BCHW.dtype) - target_BCHW
        error_BCHW = error_BCHW.abs() if self.config.reconstruction == "l1" else error_BCHW.square()
        pictures, beta = batch.num_samples, self.config.quantizer.beta
        losses = {
            "reconstruction": Part(error_BCHW.flatten(1).mean(1).sum(), pictures),
            "commitment": Part(found.commitment_B.sum(), pictures, beta),
        }
        if self.config.quantizer.learned == "gradient":
            losses["codebook"] = Part(found.codebook_B.sum(), pictures)
        return losses

    def counts(self, batch: PictureBatch, phase: str = "main") -> dict[str, float]:
        codebook = ("codebook",) if self.config.quantizer.learned == "gradient" else ()
        return dict.fromkeys(("reconstruction", "commitment", *codebook), batch.num_samples)

    def after_step(self) -> None:
        self.model.quantizer.after_step()

    def checkpoint_activations(self, on: bool) -> None:
        self.model.encoder.checkpointing = self.model.decoder.checkpointing = on

    def summary(self) -> dict[str, float]:
        return self.model.quantizer.statistics()

    def predictor(self) -> VqPredictor:
        return VqPredictor(self.config, self.processor, self.model, "vq")


class VqPredictor(TokenizerPredictor[Config, VqModel]):
    """Makes codes of pictures, and pictures of codes."""

    VERBS = VERBS
    CONFIG = Config

    @classmethod
    def build(cls, config: Config, processor: PictureProcessor) -> VqModel:
        model = VqModel(config, processor.image.mean, processor.image.std)
        model.grid(processor.image.size)
        return model


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, VqTask]:
    """A codebook by averages with restarts, and one by gradient with attention in the middle, at their smallest."""
    processor = PictureProcessor(ImagePreprocessing(32, mean=MEAN, std=STD, views=None))
    autoencoder = AutoencoderConfig((16, 32), blocks=1, latent=8, groups=8, attention=False, patch=4)
    averaged = Config(autoencoder, QuantizerConfig(64, 8, restart_every=10))
    learned = Config(
        replace(autoencoder, channels=(16, 16, 32), attention=True, patch=2),
        QuantizerConfig(64, 8, "gradient", restart_every=10),
    )
    return {"averaged": VqTask(averaged, processor), "gradient": VqTask(learned, processor)}


def weights_from(reference: str | Path) -> VqPredictor | chameleon.ChameleonEncoderPredictor:
    """Weights of a folder or hub id: diffusers' VQModel, or transformers' ChameleonVQVAE.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder's architecture has a part that is not here (attention in stages, spatial norms).
    """
    folder = folder_of(reference)
    if chameleon.is_chameleon(folder):
        return _of_chameleon(chameleon.read_chameleon(folder))
    sizes = read_sizes(folder)
    config = Config(sizes.autoencoder, QuantizerConfig(sizes.codes, sizes.width, "gradient"), scaling=sizes.scaling)
    processor = PictureProcessor(ImagePreprocessing(sizes.image_size, mean=MEAN, std=STD))
    module = VqPredictor.build(config, processor)
    module.load_state_dict(read_state(folder, sizes, module.state_dict()))
    return VqPredictor(config, processor, module.eval(), folder.name)


def _of_chameleon(found: chameleon.ChameleonFolder) -> VqPredictor | chameleon.ChameleonEncoderPredictor:
    """Of a folder without a decoder (transformers leaves it out) the predictor makes codes and no pictures."""
    if not found.whole:
        return found.encoder_predictor()
    config = Config(found.config.autoencoder, found.config.quantizer)
    predictor = VqPredictor(config, found.processor, VqPredictor.build(config, found.processor), found.path.name)
    found.fill(predictor.module, predictor.module.quantizer)
    return predictor


def export_to(predictor: VqPredictor, folder: Path) -> None:
    """Writes a diffusers VQModel folder.

    Raises:
        ConfigError: the model has a part that VQModel does not.
    """
    config, image = predictor.config, predictor.processor.image
    if image.mean != MEAN or image.std != STD:
        raise ConfigError(f"VQModel takes values from -1 to 1, and this model's mean is {image.mean}, std {image.std}")
    codebook = config.quantizer
    sizes = VqSizes(config.autoencoder, codebook.codes, codebook.width, image.size, config.scaling)
    write_folder(folder, sizes, predictor.module.state_dict())
