"""Imagen: a frozen encoder of text alone, and pictures made small first and enlarged in steps, pixel by pixel.

Saharia et al. 2022, "Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding", arXiv 2205.11487.
The text is read by a T5 that never saw a picture (any T5 folder; without one, our own masked language model, which is
trained on the captions alone). A U-Net makes a small picture of noise, others enlarge it, told the text too. What they
enlarge is given noise in training, a level of its own for each sample, and they are told how much: so they repair what
the stage before gets wrong (section 2.4). Every stage is trained by itself. At each sampling step the picture that the
noise seems to hide is thresholded dynamically (section 2.3).

Departures: the U-Net of Stable Diffusion with a pooled text added to the time, not the Efficient U-Net; three stages of
any size; `detail`, which the tiny sizes use: stages that enlarge may be asked for what the smaller picture lacks, as in
SRDiff (Li et al. 2021, arXiv 2104.14951). It is no picture, so that no thresholding is made of it; the sum is clipped.

B batch, N rows, C colours, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from diptych.capabilities.verbs import Comparable
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part
from diptych.core.sample import Sample
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import hash_to_int, unit_interval
from diptych.core.task import Task
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer
from diptych.decoding.diffusion_sampler import sample
from diptych.layers.frozen_text import T5Text
from diptych.models._check_texts import check_texts
from diptych.models.generative._caption_dropout import with_dropped
from diptych.models.generative._diffusion_classifier import ClassifierConfig
from diptych.models.generative._diffusion_predictor import DiffusionPredictor, Space, guided, streams
from diptych.models.generative._imagen_module import Config, Imagen, StageConfig, Told
from diptych.objectives.diffusion import drawn_noise, drawn_steps, noised, squared_error, target

__all__ = ["Config", "Imagen", "ImagenPredictor", "ImagenTask", "StageConfig"]

VERBS = ("generate_image", "image_likelihood", "score")
READS = ()

MEAN = STD = (0.5, 0.5, 0.5)
TEXT = "text"


class ImagenTask(Task[ImageTextBatch]):
    """The error of the noise in one stage; the text encoder and the other stages stay as they are given.

    Args:
        stage: which one is trained; None for all of them at once.
        known: weights of the whole model so far (`self.model`), as an earlier stage's run left them.
        text: weights of our own text encoder, where it was trained apart.
    """

    processor: ImageTextProcessor

    def __init__(
        self, config: Config, processor: ImageTextProcessor, stage: int | None = None,
        known: Mapping[str, Tensor] | None = None, text: Mapping[str, Tensor] | None = None,
        t5: T5Text | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = config
        self.processor = processor
        self.stages = range(len(config.stages)) if stage is None else (stage,)
        self.model = ImagenPredictor.build(config, processor, t5)
        if known is not None:
            self.model.load_state_dict(known)
        if text is not None:
            self.model.text.load_state_dict(text)
        for number, parts in enumerate(zip(self.model.unets, self.model.text_norms, strict=True)):
            for part in parts:
                part.requires_grad_(number in self.stages)

    def losses(self, batch: ImageTextBatch, phase: str = "main") -> Losses:
        pixels_BCHW = self.model.normalise(batch.pixels_BCHW)
        told = self.model.tell(*with_dropped(batch, self.processor.tokenizer, self.config.drop))
        return {f"stage_{stage}": self._part(stage, pixels_BCHW, told, batch.seeds) for stage in self.stages}

    def _part(self, stage: int, pixels_BCHW: Tensor, told: Told, of_samples: Sequence[int]) -> Part:
        model, config = self.model, self.config
        seeds = [hash_to_int("stage", stage, seed) for seed in of_samples]
        clean = model.at_size(pixels_BCHW, stage)
        steps_B = drawn_steps(seeds, config.schedule.steps).to(clean.device)
        noise, kept_B = drawn_noise(seeds, clean), model.kept_S[steps_B]
        shown, levels_B = None, None
        if stage:
            levels_B = self._levels(seeds).to(clean.device)
            smaller = model.at_size(pixels_BCHW, stage - 1)
            shown = model.enlarged(smaller, stage, levels_B, drawn_noise(seeds, clean, "augmentation"))
            clean = model.detail_of(clean, smaller, stage)
        said = model(stage, noised(clean, noise, kept_B), steps_B, told, shown, levels_B)
        errors_B = squared_error(said, target(clean, noise, kept_B, config.prediction))
        return Part(errors_B.sum(), len(seeds))

    def _levels(self, seeds: Sequence[int]) -> Tensor:
        """How much noise the smaller picture of each sample has: a step [B], evenly from none (-1) to the most."""
        most = self.config.augment * self.config.schedule.steps
        return torch.tensor([int(unit_interval("level", seed) * (most + 1)) - 1 for seed in seeds])

    def counts(self, batch: ImageTextBatch, phase: str = "main") -> dict[str, float]:
        return {f"stage_{stage}": batch.num_samples for stage in self.stages}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.model.text.eval()
        return self

    def checkpoint_activations(self, on: bool) -> None:
        for unet in self.model.unets:
            unet.checkpointing = on  # type: ignore[assignment]

    def predictor(self) -> ImagenPredictor:
        return ImagenPredictor(self.config, self.processor, self.model, "imagen")


class ImagenPredictor(DiffusionPredictor[Config, Imagen, Told]):
    """Makes pictures of texts, and says by its first stage which text a picture is likeliest of."""

    VERBS = VERBS
    CONFIG = Config
    likelihood_is = "lower bound of the smallest picture, its sum over steps estimated"

    @property
    def comparable_over(self) -> Comparable:
        """Errors of one picture's noise: those of two pictures are not comparable."""
        return Comparable.TEXTS

    def spaces(self) -> Space:
        config, base = self.config, self.config.stages[0]
        return Space(
            (3, base.size, base.size), config.schedule, config.prediction, config.sampler, config.classifier,
            base.guidance, config.steps,
        )  # fmt: skip

    def clean(self, pixels_NCHW: Tensor) -> Tensor:
        return self.module.at_size(self.module.normalise(pixels_NCHW), 0)

    def pixels(self, clean_N: Tensor) -> Tensor:
        """Pixels in [0, 1] of prepared ones of any size."""
        shift, factor = self.module.normalise.shift_C11, self.module.normalise.factor_C11
        return ((clean_N - shift) / (255 * factor)).clamp(0, 1)

    def tell(self, texts: Sequence[str]) -> Told:
        tokens_NT, lengths_N = (part.to(self.device) for part in self.processor.tokens(texts))
        return self.module.tell(tokens_NT, lengths_N)

    def say(self, noised_N: Tensor, steps_N: Tensor, told: Told) -> Tensor:
        said: Tensor = self.module(0, noised_N, steps_N, told)
        return said

    def pictures(self, texts: Sequence[str], seeds: Sequence[int], sampling: ImageSampling) -> Tensor:
        """Pixels [N, 3, H, W] in [0, 1], through every stage."""
        made: Tensor | None = None
        for stage in range(len(self.config.stages)):
            made = self.enlarge(stage, texts, seeds, sampling, made)
        assert made is not None
        return self.pixels(made)

    def enlarge(
        self, stage: int, texts: Sequence[str], seeds: Sequence[int], sampling: ImageSampling,
        smaller_NCHW: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """One stage's pictures, prepared; of the smaller ones where it is not the first."""
        config, size = self.config, self.config.stages[stage].size
        own = [hash_to_int("stage", stage, seed) for seed in seeds]
        sampler, shown, levels_N = config.sampler, None, None
        if smaller_NCHW is not None:
            level = int(config.level * config.schedule.steps) - 1
            levels_N = torch.full((len(texts),), level, device=self.device)
            rows = smaller_NCHW.new_zeros(len(texts), 3, size, size)
            shown = self.module.enlarged(smaller_NCHW, stage, levels_N, drawn_noise(own, rows, "augmentation"))
            sampler = replace(sampler, clip=False, threshold=0.0) if config.detail else sampler
        weight = config.stages[stage].guidance if sampling.guidance is None else sampling.guidance
        told = self.tell(streams(texts, weight))

        def say(rows_N: Tensor, steps_N: Tensor) -> Tensor:
            times = len(rows_N) // len(texts)
            beside = [None if part is None else torch.cat([part] * times) for part in (shown, levels_N)]
            said: Tensor = self.module(stage, rows_N, steps_N, told, *beside)
            return said

        like, steps, betas = next(self.module.parameters()), sampling.steps or config.steps, config.schedule.betas()
        made = sample(sampler, betas, config.prediction, guided(say, weight), (3, size, size), steps, own, like)
        return made if smaller_NCHW is None else self.module.picture_of(made, smaller_NCHW, stage)

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        if isinstance(self.module.text, T5Text):
            self.module.text.write_config(folder / TEXT)

    @classmethod
    def rebuilt(cls, config: Config, processor: ImageTextProcessor, folder: Path) -> Imagen:
        return cls.build(config, processor, T5Text.fresh(folder / TEXT) if config.t5 else None)

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor, t5: T5Text | None = None) -> Imagen:
        """The module with fresh U-Nets.

        Raises:
            ConfigError: captions, words or pictures do not fit the sizes.
        """
        settings = processor.config
        if settings.image.size != config.stages[-1].size:
            raise ConfigError(f"pictures of {settings.image.size} pixels, and a cascade up to {config.stages[-1].size}")
        if t5 is None:
            check_texts(config.text, settings.text, processor.tokenizer)
        return Imagen(config, settings.image.mean, settings.image.std, t5)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, ImagenTask]:
    """All stages at once, and the last alone, at their smallest; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    image = ImagePreprocessing(32, mean=MEAN, std=STD, views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(128)), tokenizer)
    sizes = Config.tiny(tokenizer.vocab_size)
    stages = tuple(
        replace(one, unet=replace(one.unet, channels=(16, 32), attended=(False, True), heads=(2,)))
        for one in sizes.stages
    )
    few = ClassifierConfig(((4, 1),), bound=8)
    sizes = replace(sizes, stages=stages, text=replace(sizes.text, depth=1, context=128), steps=4, classifier=few)
    return {"all": ImagenTask(sizes, processor), "last": ImagenTask(sizes, processor, stage=2)}
