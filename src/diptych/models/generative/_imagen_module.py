"""Imagen's modules: a frozen encoder of text alone, and a cascade of U-Nets over pixels.

B batch, T text tokens, X their width, C colours, H height, W width, S steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.decoding.diffusion_sampler import SamplerConfig
from diptych.layers.frozen_text import T5Text
from diptych.layers.normalise import Normalise
from diptych.layers.text_transformer import TextConfig, TextTransformer
from diptych.layers.unet import UNet, UNetConfig
from diptych.models.generative._diffusion_classifier import ClassifierConfig
from diptych.objectives.diffusion import NoiseSchedule, Prediction, noised


@dataclass(frozen=True)
class StageConfig:
    """One step of the cascade.

    Attributes:
        size: side of its pictures.
        unet: of the first stage 3 channels in, of the others 6: the picture, and the smaller one made larger.
        guidance: of sampling, where a caller says nothing.
    """

    size: int
    unet: UNetConfig
    guidance: float = 3.0


def _unet(channels: tuple[int, ...], text: int, attended: tuple[bool, ...], larger: bool) -> UNetConfig:
    groups, heads = (32, 8) if channels[0] >= 64 else (8, 4)
    return UNetConfig(
        6 if larger else 3, 3, channels, 1 if channels[0] < 64 else 3, attended, (heads,), groups, text, added=text,
        levels=larger,
    )  # fmt: skip


def _paper() -> tuple[StageConfig, ...]:
    base = _unet((512, 1024, 1536, 2048), 4096, (False, True, True, True), larger=False)
    middle = _unet((128, 256, 512, 1024), 4096, (False, False, False, True), larger=True)
    return (StageConfig(64, base, 7.5), StageConfig(256, middle, 4.0), StageConfig(1024, middle, 4.0))


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes and choices; the defaults are about those of the paper.

    Attributes:
        stages: from the smallest pictures to the largest, at least three.
        text: of our own encoder, where no T5 is read.
        t5: whether the text is read by a T5, whose folder is given beside.
        width: of the text's states.
        schedule: of the noise in training, in every stage.
        prediction: what the U-Nets are asked for.
        sampler: dynamic thresholding is its `threshold`.
        augment: the most noise, as a share of the schedule, that the smaller picture is given in training.
        level: the share of it at sampling.
        detail: where above 0, stages that enlarge are asked for the difference to the smaller picture made larger, in
            units of so much: their errors are then so much smaller in the picture. 0 for the picture itself.
        drop: share of the samples that are trained without their text, for guidance.
        steps: of sampling in each stage, where a caller says nothing.
    """

    stages: tuple[StageConfig, ...] = field(default_factory=_paper)
    text: TextConfig = field(default_factory=lambda: TextConfig(32_128, 128, 4096, 24, 64, 10_240, causal=False))
    t5: bool = True
    width: int = 4096
    schedule: NoiseSchedule = field(default_factory=lambda: NoiseSchedule("squaredcos_cap_v2"))
    prediction: Prediction = "epsilon"
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig("ddim", eta=1.0, clean_end=True, threshold=0.995)
    )
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    augment: float = 0.5
    level: float = 0.1
    detail: float = 0.0
    drop: float = 0.1
    steps: int = 100

    def __post_init__(self) -> None:
        sizes = [stage.size for stage in self.stages]
        if len(sizes) < 3 or sizes != sorted(set(sizes)):
            raise ConfigError(f"a cascade of the sizes {sizes}: give at least three, each larger than the one before")
        for number, stage in enumerate(self.stages):
            unet, inputs = stage.unet, 6 if number else 3
            if (unet.inputs, unet.outputs, unet.levels, unet.added) != (inputs, 3, number > 0, self.width):
                raise ConfigError(
                    f"stage {number} of the cascade needs a U-Net of {inputs} channels in and 3 out, told a vector of "
                    f"{self.width} numbers and {'a' if number else 'no'} noise level"
                )
            if unet.text != self.width:
                raise ConfigError(f"a U-Net that reads tokens of width {unet.text} does not fit a text of {self.width}")
        if not self.t5 and (self.text.width != self.width or self.text.causal):
            raise ConfigError(f"our text encoder must be {self.width} wide, and not causal")
        if not 0 <= self.level <= self.augment <= 1 or not 0 <= self.drop < 1 or self.steps < 1 or self.detail < 0:
            raise ConfigError(
                f"level {self.level} must be at most augment {self.augment}, both shares, drop {self.drop} a share, "
                f"steps {self.steps} at least 1, and detail {self.detail} 0 or more"
            )

    @classmethod
    def tiny(cls, vocab_size: int = 512) -> Self:
        """8, 16 and 32 pixels; trains on a CPU in minutes."""
        stages = (
            StageConfig(8, _unet((32, 64), 96, (True, True), larger=False), 1.5),
            StageConfig(16, _unet((16, 32, 64), 96, (False, False, True), larger=True), 1.0),
            StageConfig(32, _unet((16, 32, 64), 96, (False, False, True), larger=True), 1.0),
        )
        text = TextConfig(vocab_size, 64, 96, 3, 3, 384, causal=False)
        sampler = SamplerConfig("ddim", "trailing", eta=1.0, clean_end=True, threshold=0.995)
        return cls(stages, text, t5=False, width=96, prediction="v_prediction", sampler=sampler, detail=0.15, steps=25)

    def with_vocabulary(self, size: int) -> Self:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))


class Told(NamedTuple):
    """What the U-Nets are told of texts.

    Attributes:
        states_BTX: of every token.
        mask_B1T: True where a token is no padding.
    """

    states_BTX: Tensor
    mask_B1T: Tensor

    def rows(self, places: Tensor) -> Told:
        """Some of the texts, in this order."""
        return Told(self.states_BTX[places], self.mask_B1T[places])


class Imagen(nn.Module):
    """The text encoder and the U-Nets."""

    def __init__(self, config: Config, mean: Sequence[float], std: Sequence[float], t5: T5Text | None = None) -> None:
        super().__init__()
        if config.t5 != (t5 is not None):
            raise ConfigError("model.t5 says whether a T5 folder is read: give one, or switch it off")
        if t5 is not None and t5.width != config.width:
            raise ConfigError(f"this T5 gives states of width {t5.width}, and the model takes {config.width}")
        self.config = config
        self.normalise = Normalise(mean, std)
        self.text: nn.Module = t5 or TextTransformer(config.text).requires_grad_(requires_grad=False)
        self.unets = nn.ModuleList(UNet(stage.unet) for stage in config.stages)
        self.text_norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in config.stages)
        self.register_buffer("kept_S", config.schedule.kept().float(), persistent=False)
        self.kept_S: Tensor

    @torch.no_grad()
    def tell(self, tokens_BT: Tensor, lengths_B: Tensor) -> Told:
        """What is told of texts; the encoder is frozen."""
        assert isinstance(self.text, TextTransformer | T5Text)
        inside_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device) < lengths_B[:, None]
        return Told(self.text.tokens(tokens_BT, lengths_B), inside_BT[:, None])

    def at_size(self, pixels_BCHW: Tensor, stage: int) -> Tensor:
        """Prepared pictures at a stage's size."""
        return resized(pixels_BCHW, self.config.stages[stage].size)

    def larger(self, smaller_BCHW: Tensor, stage: int) -> Tensor:
        """The smaller picture at a stage's size, smoothly."""
        size = self.config.stages[stage].size
        return F.interpolate(smaller_BCHW, size=(size, size), mode="bilinear", align_corners=False)

    def detail_of(self, picture_BCHW: Tensor, smaller_BCHW: Tensor, stage: int) -> Tensor:
        """What a stage that enlarges is asked for: the picture, or what the smaller one lacks of it."""
        if not self.config.detail:
            return picture_BCHW
        return (picture_BCHW - self.larger(smaller_BCHW, stage)) / self.config.detail

    def picture_of(self, detail_BCHW: Tensor, smaller_BCHW: Tensor, stage: int) -> Tensor:
        """The other way round; where there is a smaller picture below it, within -1 and 1."""
        if not self.config.detail:
            return detail_BCHW
        return (self.larger(smaller_BCHW, stage) + self.config.detail * detail_BCHW).clamp(-1, 1)

    def enlarged(self, smaller_BCHW: Tensor, stage: int, levels_B: Tensor, noise_BCHW: Tensor) -> Tensor:
        """The smaller picture at a stage's size, with noise: what the stage is shown.

        Args:
            levels_B: the step of the schedule whose noise it has; below 0 for none.
            noise_BCHW: at the stage's size.
        """
        larger_BCHW = self.larger(smaller_BCHW, stage)
        none_B111 = (levels_B < 0)[:, None, None, None]
        return torch.where(none_B111, larger_BCHW, noised(larger_BCHW, noise_BCHW, self.kept_S[levels_B.clamp(min=0)]))

    def forward(
        self, stage: int, noised_BCHW: Tensor, steps_B: Tensor, told: Told, shown_BCHW: Tensor | None = None,
        levels_B: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """What a stage's U-Net says of pictures with noise.

        Args:
            shown_BCHW, levels_B: the smaller picture as `enlarged` gives it, and its noise; of later stages alone.
        """
        dtype = noised_BCHW.dtype
        seen = noised_BCHW if shown_BCHW is None else torch.cat([noised_BCHW, shown_BCHW], dim=1)
        # Imagen's section 2.2: a layer norm of the text, where it is attended to and where it is pooled.
        states_BTX = self.text_norms[stage](told.states_BTX.to(dtype))
        share_BT1 = (told.mask_B1T / told.mask_B1T.sum(-1, keepdim=True).clamp(min=1)).transpose(1, 2).to(dtype)
        pooled_BX = (states_BTX * share_BT1).sum(1)
        out: Tensor = self.unets[stage](seen, steps_B, states_BTX, told.mask_B1T, pooled_BX, levels_B)
        return out


def resized(pixels_BCHW: Tensor, size: int) -> Tensor:
    """Pictures at another size, antialiased."""
    if pixels_BCHW.shape[-1] == size:
        return pixels_BCHW
    return F.interpolate(pixels_BCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
