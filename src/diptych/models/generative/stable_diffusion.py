"""Stable Diffusion: noise becomes the latents of a picture, step by step, told a text.

Rombach et al. 2021, "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752. An autoencoder
(autoencoder_kl.py) and a text tower are frozen; a U-Net, which attends to the text's tokens at every level, is asked
for the noise in latents at a random step: E ||e - e_theta(x_t, t, c)||^2. In a tenth of the samples the text is "", so
that sampling can go away from no text: e_u + w (e_c - e_u).

As a judge of pictures and texts: the diffusion classifier of Li et al. 2023 (_diffusion_classifier.py).

Departures: a text tower that ignores padding has it masked out in the U-Net too; the released towers read it as text.
Averaged weights are the run's: `--ema_decay`.

B batch, N rows, C latent channels, h rows and w columns of latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from diptych.capabilities.load import folder_of
from diptych.capabilities.verbs import Comparable
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part
from diptych.core.sample import Sample
from diptych.core.task import Task
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.text_transformer import TextConfig
from diptych.layers.unet import UNetConfig
from diptych.models._check_texts import check_texts
from diptych.models.generative import _diffusers_pipeline as public
from diptych.models.generative._caption_dropout import with_dropped
from diptych.models.generative._diffusers_export import write_folder
from diptych.models.generative._diffusion_classifier import ClassifierConfig
from diptych.models.generative._diffusion_predictor import DiffusionPredictor, Space
from diptych.models.generative._latent_module import Config, LatentDiffusion, Told
from diptych.models.image_tokenizer import autoencoder_kl
from diptych.models.image_tokenizer._kl_module import Latent

__all__ = ["Config", "LatentDiffusion", "StableDiffusionPredictor", "StableDiffusionTask"]

VERBS = ("generate_image", "image_likelihood", "score")
READS = ("StableDiffusionPipeline",)


class StableDiffusionTask(Task[ImageTextBatch]):
    """The error of the noise; text tower and autoencoder stay as they are given."""

    processor: ImageTextProcessor

    def __init__(
        self, config: Config, processor: ImageTextProcessor, text: Mapping[str, Tensor] | None = None,
        autoencoder: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            text, autoencoder: weights of the frozen parts; None leaves them random.
        """
        super().__init__()
        self.config = config
        self.processor = processor
        self.model = StableDiffusionPredictor.build(config, processor)
        if text is not None:
            self.model.text.load_state_dict(text)
        if autoencoder is not None:
            self.model.autoencoder.load_state_dict(autoencoder)

    def losses(self, batch: ImageTextBatch, phase: str = "main") -> Losses:
        errors_B = self.model.errors(batch.pixels_BCHW, batch.seeds, self._told(batch))
        return {"denoising": Part(errors_B.sum(), batch.num_samples)}

    def counts(self, batch: ImageTextBatch, phase: str = "main") -> dict[str, float]:
        return {"denoising": batch.num_samples}

    def _told(self, batch: ImageTextBatch) -> Told:
        return self.model.tell(*with_dropped(batch, self.processor.tokenizer, self.config.drop))

    def checkpoint_activations(self, on: bool) -> None:
        self.model.unet.checkpointing = on

    def predictor(self) -> StableDiffusionPredictor:
        return StableDiffusionPredictor(self.config, self.processor, self.model, "stable_diffusion")


class StableDiffusionPredictor(DiffusionPredictor[Config, LatentDiffusion, Told]):
    """Makes pictures of texts, and says which text a picture is likeliest of."""

    VERBS = VERBS
    CONFIG = Config
    likelihood_is = "lower bound over latents, its sum over steps estimated"

    @property
    def comparable_over(self) -> Comparable:
        """Errors of one picture's noise: those of two pictures are not comparable."""
        return Comparable.TEXTS

    def spaces(self) -> Space:
        config = self.config
        grid = self.module.autoencoder.grid(self.processor.config.image.size)
        return Space(
            (config.unet.inputs, *grid), config.schedule, config.prediction, config.sampler, config.classifier,
            config.guidance, config.steps,
        )  # fmt: skip

    def clean(self, pixels_NCHW: Tensor) -> Tensor:
        return self.module.autoencoder.latents(pixels_NCHW)

    def pixels(self, clean_N: Tensor) -> Tensor:
        return self.module.autoencoder.pixels(clean_N)

    def tell(self, texts: Sequence[str]) -> Told:
        tokens_NT, lengths_N = (part.to(self.device) for part in self.processor.tokens(texts))
        return self.module.tell(tokens_NT, lengths_N)

    def say(self, noised_N: Tensor, steps_N: Tensor, told: Told) -> Tensor:
        said: Tensor = self.module(noised_N, steps_N, told)
        return said

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> LatentDiffusion:
        """The module with fresh weights.

        Raises:
            ConfigError: captions, tokenizer, pictures or padding do not fit the sizes.
        """
        text, settings = config.text, processor.config
        check_texts(text, settings.text, processor.tokenizer)
        if (text.padding == "constant") != settings.text.pad_to_max:
            raise ConfigError("constant padding must be on for both the text tower and the processor, or for neither")
        module = LatentDiffusion(config, settings.image.mean, settings.image.std)
        module.autoencoder.grid(settings.image.size)
        return module


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, StableDiffusionTask]:
    """Asked for the noise and for v, at their smallest; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    image = ImagePreprocessing(32, mean=autoencoder_kl.MEAN, std=autoencoder_kl.STD, views=None)
    sizes = Config(
        UNetConfig(4, 4, (16, 32), 1, (True, False), (2,), 8, 32),
        AutoencoderConfig((16,), blocks=1, latent=4, groups=8, attention=False, patch=4),
        Latent(scaling=1.0),
        TextConfig(tokenizer.vocab_size, 128, 32, 1, 2, 64),
        guidance=2.0,
        steps=4,
        classifier=ClassifierConfig(((4, 1),), bound=8),
    )
    padded = replace(sizes, prediction="v_prediction", text=replace(sizes.text, padding="constant"))
    words, constant = TextPreprocessing(128), TextPreprocessing(128, pad_to_max=True)
    return {
        "epsilon": StableDiffusionTask(sizes, ImageTextProcessor(ImageTextConfig(image, words), tokenizer)),
        "v": StableDiffusionTask(padded, ImageTextProcessor(ImageTextConfig(image, constant), tokenizer)),
    }


def weights_from(reference: str | Path) -> StableDiffusionPredictor:
    """Weights of a diffusers StableDiffusionPipeline folder or hub id.

    Raises:
        CheckpointError: a part, a file or a weight is missing, left over, or of another shape.
        ConfigError: a part of the folder is of a kind that is not here.
    """
    folder = folder_of(reference)
    config, image_size = public.read_config(folder)
    processor = public.read_processor(folder, config, image_size)
    module = StableDiffusionPredictor.build(config, processor)
    public.load_weights(module, folder, config)
    return StableDiffusionPredictor(config, processor, module, folder.name)


def export_to(predictor: StableDiffusionPredictor, folder: Path) -> None:
    """Writes a diffusers StableDiffusionPipeline folder.

    Raises:
        ConfigError: the model has a part that StableDiffusionPipeline does not.
    """
    write_folder(predictor.module, predictor.processor, predictor.name, folder)
