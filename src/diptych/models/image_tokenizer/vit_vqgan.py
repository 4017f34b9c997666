"""ViT-VQGAN: codes of pictures by transformers, looked up by angle among short vectors.

Yu et al. 2021, "Vector-quantized Image Modeling with Improved VQGAN", arXiv 2110.04627; what Parti draws with. Encoder
and decoder are vision transformers. A vector is mapped to 32 numbers before it is looked up ("factorized codes"), and
vectors and codes have length one (quantizer.py, `l2`). Loss (section 3.3): squared error, 0.1 times the logit-Laplace
likelihood (objectives/logit_laplace.py), 0.1 times a perceptual distance and 0.1 times a game against a discriminator.

The decoder says two numbers a pixel value: the median of its logit, which makes the picture, and the log of the scale.

Departures: a discriminator of patches with the hinge loss in the place of StyleGAN's, and off in `tiny()`; perceptual
network as in vqgan.py; the scale of the likelihood is bounded below; codes that nobody chooses are restarted.

B batch, C channels, H height, W width, h rows and w columns of the grid of codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part
from diptych.core.sample import Sample
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.layers.normalise import Normalise
from diptych.layers.patch_discriminator import DiscriminatorConfig
from diptych.layers.perceptual_network import PerceptualNetwork
from diptych.layers.quantizer import Quantizer, QuantizerConfig
from diptych.layers.vit_autoencoder import VitConfig, VitDecoder, VitEncoder
from diptych.models.image_tokenizer._picture_task import AdversarialConfig, Made, PictureLossConfig, PictureTask
from diptych.models.image_tokenizer._tokenizer import TokenizerModel, TokenizerPredictor, at_least_one, checked_codes
from diptych.objectives.logit_laplace import logit_laplace, unsqueezed

VERBS = ("reconstruct", "tokenize_image")
READS = ()

MEAN = STD = (0.5, 0.5, 0.5)
"""Of the pixels of a fresh model: values from -1 to 1."""


def _codebook(codes: int = 8192) -> QuantizerConfig:
    return QuantizerConfig(codes, 32, "gradient", restart_every=100, l2=True)


def _losses(game: AdversarialConfig) -> PictureLossConfig:
    return PictureLossConfig(0.0, 1.0, 0.1, game)


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes of the transformers and of the codebook, and what is learned from.

    Attributes:
        logit_laplace: weight of the likelihood.
    """

    vit: VitConfig = field(default_factory=VitConfig)
    quantizer: QuantizerConfig = field(default_factory=_codebook)
    losses: PictureLossConfig = field(default_factory=lambda: _losses(AdversarialConfig(0.1, adaptive=False)))
    logit_laplace: float = 0.1

    def __post_init__(self) -> None:
        if self.logit_laplace < 0:
            raise ConfigError(f"logit_laplace {self.logit_laplace} must not be negative")

    @classmethod
    def base(cls) -> Config:
        """ViT-VQGAN base: 256 pixels to 32 x 32 of 8192 codes; 12 blocks of width 768 a side."""
        return cls()

    @classmethod
    def small(cls) -> Config:
        """ViT-VQGAN small: 8 blocks of width 512 a side."""
        return cls(VitConfig(width=512, depth=8, heads=8, hidden=2048))

    @classmethod
    def tiny(cls, codes: int = 256) -> Config:
        """64 pixels to 8 x 8 codes, without the game."""
        return cls(
            VitConfig(64, 8, width=128, depth=2, heads=4, hidden=256),
            replace(_codebook(codes), learned="average", restart_every=10),
            _losses(AdversarialConfig(0.0, adaptive=False)),
        )


class Reconstruction(NamedTuple):
    """One pass over pictures.

    Attributes:
        share_BCHW: the picture, values about [0, 1].
        mu_BCHW, log_scale_BCHW: what the decoder says of every pixel's logit.
        codebook_B, commitment_B: as `Quantized` has them.
    """

    share_BCHW: Tensor
    mu_BCHW: Tensor
    log_scale_BCHW: Tensor
    codes_Bhw: Tensor
    codebook_B: Tensor
    commitment_B: Tensor


class VitVqModel(TokenizerModel):
    """Encoder, codebook, decoder; `codes`, `decode` and `grid` are what others use of it."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, config: Config, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        super().__init__()
        self.config = config
        self.normalise = Normalise(mean, std)
        self.encoder = VitEncoder(config.vit, config.quantizer.width)
        self.quantizer = Quantizer(config.quantizer)
        nn.init.normal_(self.quantizer.codebook_KC)  # every direction alike
        self.decoder = VitDecoder(config.vit, config.quantizer.width, channels=6)
        self.register_buffer("mean_C11", torch.tensor(tuple(mean))[:, None, None], persistent=False)
        self.register_buffer("std_C11", torch.tensor(tuple(std))[:, None, None], persistent=False)

    @property
    def vocabulary(self) -> int:
        return self.config.quantizer.codes

    def grid(self, image_size: int) -> tuple[int, int]:
        return self.config.vit.grid(image_size, image_size)

    @torch.no_grad()
    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        vectors_BhwC = self.encoder(self.normalise(at_least_one(pixels_BCHW))).permute(0, 2, 3, 1)
        return self.quantizer.nearest(vectors_BhwC.to(self.quantizer.codebook_KC.dtype))[: len(pixels_BCHW)]

    @torch.no_grad()
    def decode(self, codes_Bhw: Tensor) -> Tensor:
        checked_codes(codes_Bhw, self.vocabulary)
        mu_BCHW, _ = self.decode_vectors(self.quantizer.lookup(at_least_one(codes_Bhw)).permute(0, 3, 1, 2))
        return unsqueezed(mu_BCHW).clamp(0, 1)[: len(codes_Bhw)]

    def decode_vectors(self, vectors_BChw: Tensor) -> tuple[Tensor, Tensor]:
        """Median and log scale [B, 3, H, W] of every pixel's logit, of vectors in the places of codes."""
        mu_BCHW, log_scale_BCHW = self.decoder(vectors_BChw).chunk(2, dim=1)
        return mu_BCHW, log_scale_BCHW

    def forward(self, pixels_BCHW: Tensor, seeds: Sequence[int] | None = None) -> Reconstruction:
        """A reconstruction with gradients; `seeds`, one a picture, for restarts."""
        quantized = self.quantizer(self.encoder(self.normalise(pixels_BCHW)), seeds)
        mu_BCHW, log_scale_BCHW = self.decode_vectors(quantized.vectors_BCHW)
        return Reconstruction(unsqueezed(mu_BCHW), mu_BCHW, log_scale_BCHW, *quantized[1:])


class VitVqganTask(PictureTask):
    """Reconstruction, its likelihood, codebook (where it learns by gradient), commitment; the game by a switch."""

    model: VitVqModel

    def __init__(
        self, config: Config, processor: PictureProcessor, perceptual: PerceptualNetwork | None = None
    ) -> None:
        super().__init__(config.losses, processor, perceptual)
        self.config = config
        self.model = VitVqganPredictor.build(config, processor)

    def make(self, batch: PictureBatch) -> Made:
        model, pictures, config = self.model, batch.num_samples, self.config
        target_BCHW = model.normalise(batch.pixels_BCHW)
        found = model(target_BCHW, batch.seeds)
        judged: Losses = {}
        if config.logit_laplace:
            share_BCHW = (target_BCHW * model.std_C11 + model.mean_C11).clamp(0, 1)
            said = (one.to(share_BCHW.dtype) for one in (found.mu_BCHW, found.log_scale_BCHW))
            judged["logit_laplace"] = Part(logit_laplace(share_BCHW, *said).sum(), pictures, config.logit_laplace)
        others: Losses = {"commitment": Part(found.commitment_B.sum(), pictures, config.quantizer.beta)}
        if config.quantizer.learned == "gradient":
            others["codebook"] = Part(found.codebook_B.sum(), pictures)
        pixels_BCHW = (found.share_BCHW - model.mean_C11) / model.std_C11
        return Made(target_BCHW, pixels_BCHW, judged, others)

    def part_names(self) -> list[str]:
        there = {"logit_laplace": self.config.logit_laplace, "codebook": self.config.quantizer.learned == "gradient"}
        return [*super().part_names(), "commitment", *(name for name, wanted in there.items() if wanted)]

    def last_weight(self) -> Tensor:
        return self.model.decoder.last_weight

    def after_step(self) -> None:
        super().after_step()
        self.model.quantizer.after_step()

    def checkpoint_activations(self, on: bool) -> None:
        for side in (self.model.encoder, self.model.decoder):
            side.blocks.transformer.checkpointing = on

    def summary(self) -> dict[str, float]:
        return self.model.quantizer.statistics()

    def predictor(self) -> VitVqganPredictor:
        return VitVqganPredictor(self.config, self.processor, self.model, "vit_vqgan")


class VitVqganPredictor(TokenizerPredictor[Config, VitVqModel]):
    """Makes codes of pictures, and pictures of codes."""

    VERBS = VERBS
    CONFIG = Config

    @classmethod
    def build(cls, config: Config, processor: PictureProcessor) -> VitVqModel:
        model = VitVqModel(config, processor.image.mean, processor.image.std)
        model.grid(processor.image.size)
        return model


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, VitVqganTask]:
    """A codebook by averages without the game, and one by gradient with it, at their smallest."""
    processor = PictureProcessor(ImagePreprocessing(32, mean=MEAN, std=STD, views=None))
    vit = VitConfig(32, 8, width=32, depth=1, heads=2, hidden=64)
    averaged = QuantizerConfig(64, 8, restart_every=10, l2=True)
    game = AdversarialConfig(0.02, adaptive=False, discriminator=DiscriminatorConfig(32, 1))
    return {
        "averaged": VitVqganTask(Config(vit, averaged, _losses(AdversarialConfig(adaptive=False))), processor),
        "adversarial": VitVqganTask(
            Config(vit, replace(averaged, learned="gradient"), replace(_losses(game), l1=1.0)), processor
        ),
    }
