"""VQGAN: a VQ model that is also judged by how its pictures look and by a discriminator.

Esser et al. 2020, "Taming Transformers for High-Resolution Image Synthesis", arXiv 2012.09841. The model is that of
vq.py; what differs is what it learns from: absolute errors, a perceptual distance, and from step `start` on a game
against a discriminator of patches, whose weight follows the gradients of the decoder's last layer (equation 7).

Departures: the perceptual network is not LPIPS, whose weights would have to be downloaded, but a frozen random
convolutional network, or a pretrained backbone that is given (layers/perceptual_network.py); group norm instead of
batch norm in the discriminator; the codebook may learn by averages and with restarts, as in vq.py.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from diptych.core.config import ModelConfig
from diptych.core.losses import Losses, Part
from diptych.core.sample import Sample
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.patch_discriminator import DiscriminatorConfig
from diptych.layers.perceptual_network import PerceptualNetwork
from diptych.layers.quantizer import QuantizerConfig
from diptych.models.image_tokenizer import vq
from diptych.models.image_tokenizer._picture_task import AdversarialConfig, Made, PictureLossConfig, PictureTask
from diptych.models.image_tokenizer._tokenizer import TokenizerPredictor
from diptych.models.image_tokenizer.vq import MEAN, STD, VqModel

VERBS = ("reconstruct", "tokenize_image")
READS = ()


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes of the convolutions and of the codebook, and what is learned from."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    losses: PictureLossConfig = field(
        default_factory=lambda: PictureLossConfig(adversarial=AdversarialConfig(0.8, 10_000))
    )

    @classmethod
    def imagenet_f16(cls) -> Config:
        """The paper's ImageNet model: 256 pixels to 16 x 16 of 16,384 codes; the game begins after 250,001 steps."""
        return cls(
            AutoencoderConfig((128, 128, 256, 256, 512), blocks=2, latent=256, attended=(4,)),
            QuantizerConfig(16_384, 256, "gradient"),
            PictureLossConfig(adversarial=AdversarialConfig(0.8, 250_001)),
        )

    @classmethod
    def tiny(cls, codes: int = 256) -> Config:
        """64 pixels to 8 x 8 codes, with the convolutions of `vq.Config.tiny`."""
        plain = vq.Config.tiny(codes)
        game = AdversarialConfig(0.1, 3000, discriminator=DiscriminatorConfig(16, 2))
        return cls(plain.autoencoder, plain.quantizer, PictureLossConfig(0.0, 1.0, 0.1, game))

    @property
    def model(self) -> vq.Config:
        """The same model as vq.py has it."""
        return vq.Config(self.autoencoder, self.quantizer)


class VqganTask(PictureTask):
    """Reconstruction, codebook (where it learns by gradient), commitment; then the game."""

    model: VqModel

    def __init__(
        self, config: Config, processor: PictureProcessor, perceptual: PerceptualNetwork | None = None
    ) -> None:
        super().__init__(config.losses, processor, perceptual)
        self.config = config
        self.model = VqganPredictor.build(config, processor)

    def make(self, batch: PictureBatch) -> Made:
        target_BCHW = self.model.normalise(batch.pixels_BCHW)
        found = self.model(target_BCHW, batch.seeds)
        pictures = batch.num_samples
        others: Losses = {"commitment": Part(found.commitment_B.sum(), pictures, self.config.quantizer.beta)}
        if self.config.quantizer.learned == "gradient":
            others["codebook"] = Part(found.codebook_B.sum(), pictures)
        return Made(target_BCHW, found.pixels_BCHW, {}, others)

    def part_names(self) -> list[str]:
        codebook = ["codebook"] if self.config.quantizer.learned == "gradient" else []
        return [*super().part_names(), "commitment", *codebook]

    def last_weight(self) -> Tensor:
        return self.model.decoder.conv_out.weight

    def after_step(self) -> None:
        super().after_step()
        self.model.quantizer.after_step()

    def checkpoint_activations(self, on: bool) -> None:
        self.model.encoder.checkpointing = self.model.decoder.checkpointing = on

    def summary(self) -> dict[str, float]:
        return self.model.quantizer.statistics()

    def predictor(self) -> VqganPredictor:
        return VqganPredictor(self.config, self.processor, self.model, "vqgan")


class VqganPredictor(TokenizerPredictor[Config, VqModel]):
    """Makes codes of pictures, and pictures of codes."""

    VERBS = VERBS
    CONFIG = Config

    @classmethod
    def build(cls, config: Config, processor: PictureProcessor) -> VqModel:
        return vq.VqPredictor.build(config.model, processor)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, VqganTask]:
    """With the game and its adaptive weight, with a weight that is fixed, and without the game, at their smallest."""
    processor = PictureProcessor(ImagePreprocessing(32, mean=MEAN, std=STD, views=None))
    autoencoder = AutoencoderConfig((16, 32), blocks=1, latent=8, groups=8, attention=False, patch=4)
    game = AdversarialConfig(0.02, discriminator=DiscriminatorConfig(32, 1))
    adaptive = Config(
        autoencoder, QuantizerConfig(64, 8, restart_every=10), PictureLossConfig(1.0, 0.0, 0.1, adversarial=game)
    )
    fixed = replace(adaptive, losses=replace(adaptive.losses, adversarial=replace(game, adaptive=False, weight=0.01)))
    without = Config(
        autoencoder, QuantizerConfig(64, 8, "gradient", restart_every=10), PictureLossConfig(0.0, 1.0, 0.1)
    )
    return {
        "adaptive": VqganTask(adaptive, processor),
        "fixed": VqganTask(fixed, processor),
        "without": VqganTask(without, processor),
    }


def export_to(predictor: VqganPredictor, folder: Path) -> None:
    """Writes a diffusers VQModel folder, as vq.py does: trained, it is the same model.

    Raises:
        ConfigError: the model has a part that VQModel does not.
    """
    config = predictor.config.model
    vq.export_to(vq.VqPredictor(config, predictor.processor, predictor.module, predictor.name), folder)
