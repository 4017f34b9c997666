"""The task of tokenizers and autoencoders: reconstruction, perceptual distance and a discriminator, by switches.

With a discriminator a step has two phases, each with an optimizer of its own. "generator": reconstruction, what the
model itself adds, and the game against a discriminator that is held constant. "discriminator": real pictures and what
the model made of them, which is held constant. So the losses of a phase have no gradient for the other's parameters.

The adaptive weight of the game (objectives/adversarial.py) is a function of all pictures of a step. It is the same on
any number of processes, whose gradients are added up; a batch that is cut into micro-batches cannot have it, so such a
task is not divisible.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part
from diptych.core.task import ParamGroup, Task, decay_groups
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.layers.patch_discriminator import DiscriminatorConfig, PatchDiscriminator
from diptych.layers.perceptual_network import PerceptualNetwork, RandomFeatures
from diptych.objectives.adversarial import adaptive_weight, discriminator_hinge, generator_hinge
from diptych.objectives.perceptual import perceptual_distance

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


@dataclass(frozen=True)
class AdversarialConfig:
    """The game against a discriminator.

    Attributes:
        weight: of the game in the generator's loss; 0 for no discriminator.
        start: steps before the game begins; the discriminator is not trained before either.
        adaptive: whether the weight is multiplied by what VQGAN's equation 7 gives.
    """

    weight: float = 0.0
    start: int = 0
    adaptive: bool = True
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self) -> None:
        if self.weight < 0 or self.start < 0:
            raise ConfigError(f"adversarial.weight {self.weight} and start {self.start} must not be negative")


@dataclass(frozen=True)
class PictureLossConfig:
    """Weights of what a reconstruction is judged by, each a mean over pixels and channels or positions; 0 for not.

    Attributes:
        l1, l2: absolute and squared errors of prepared pixels.
        perceptual: distance of features of a frozen network.
    """

    l1: float = 1.0
    l2: float = 0.0
    perceptual: float = 1.0
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)

    def __post_init__(self) -> None:
        if min(self.l1, self.l2, self.perceptual) < 0:
            raise ConfigError(
                f"losses.l1 {self.l1}, l2 {self.l2} and perceptual {self.perceptual} must not be negative"
            )


class Made(NamedTuple):
    """What a model made of a batch.

    Attributes:
        target_BCHW, pixels_BCHW: prepared pixels, real and made.
        reconstruction: further parts that judge the pixels.
        others: parts that judge something else (codes, latents).
    """

    target_BCHW: Tensor
    pixels_BCHW: Tensor
    reconstruction: Losses
    others: Losses


class PictureTask(Task[PictureBatch], ABC):
    """Trains `self.model`, which a subclass sets, on pictures alone.

    Args:
        perceptual: the frozen network of the perceptual part; None for `RandomFeatures`.
    """

    processor: PictureProcessor
    model: nn.Module
    steps: Tensor

    def __init__(
        self, losses: PictureLossConfig, processor: PictureProcessor, perceptual: PerceptualNetwork | None = None
    ) -> None:
        super().__init__()
        self.judged_by = losses
        self.processor = processor
        game = losses.adversarial
        self.perceptual = (perceptual or RandomFeatures()) if losses.perceptual else None
        self.discriminator: PatchDiscriminator | None = None
        if game.weight:
            game.discriminator.require_room(processor.image.size)
            self.discriminator = PatchDiscriminator(game.discriminator)
            self.phases = (GENERATOR, DISCRIMINATOR)
            self.divisible = not game.adaptive
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def make(self, batch: PictureBatch) -> Made:
        """One pass of the model, in float32 where its losses need it."""

    @abstractmethod
    def last_weight(self) -> Tensor:
        """The weight of the last layer before the pixels."""

    def trainable(self) -> dict[str, list[ParamGroup]]:
        if self.discriminator is None:
            return {"main": decay_groups(self.model)}
        return {GENERATOR: decay_groups(self.model), DISCRIMINATOR: decay_groups(self.discriminator)}

    @property
    def playing(self) -> bool:
        """Whether the game has begun."""
        return self.discriminator is not None and int(self.steps) >= self.judged_by.adversarial.start

    def losses(self, batch: PictureBatch, phase: str = "main") -> Losses:
        if phase == DISCRIMINATOR:
            return {DISCRIMINATOR: self._of_discriminator(batch)}
        made = self.make(batch)
        judged = self._judged(made) | made.reconstruction
        found = judged | made.others
        return found | ({"adversarial": self._game(made, judged)} if self.playing else {})

    def _judged(self, made: Made) -> Losses:
        """Reconstruction as such, and how it looks."""
        weights, pictures = self.judged_by, len(made.target_BCHW)
        target_BCHW, pixels_BCHW = made.target_BCHW, made.pixels_BCHW.to(made.target_BCHW.dtype)
        error_BCHW = pixels_BCHW - target_BCHW
        found: Losses = {}
        if weights.l1:
            found["l1"] = Part(error_BCHW.abs().flatten(1).mean(1).sum(), pictures, weights.l1)
        if weights.l2:
            found["l2"] = Part(error_BCHW.square().flatten(1).mean(1).sum(), pictures, weights.l2)
        if self.perceptual is not None:
            with torch.no_grad():
                wanted = self.perceptual(target_BCHW)
            distance_B = perceptual_distance(self.perceptual(pixels_BCHW), wanted)
            found["perceptual"] = Part(distance_B.sum(), pictures, weights.perceptual)
        return found

    def _game(self, made: Made, judged: Losses) -> Part:
        """What the discriminator, held constant, thinks of the pixels, weighed against the reconstruction."""
        assert self.discriminator is not None
        game, pictures = self.judged_by.adversarial, len(made.target_BCHW)
        total = generator_hinge(self.discriminator.as_constant(made.pixels_BCHW)).sum()
        if game.adaptive:
            reconstruction = torch.stack([part.weight * part.sum for part in judged.values()]).sum()
            total = adaptive_weight(reconstruction, total, pictures, self.last_weight()) * total
        return Part(total, pictures, game.weight)

    def _of_discriminator(self, batch: PictureBatch) -> Part:
        assert self.discriminator is not None
        if not self.playing:  # its gradients have to be there, and are nothing: no picture is made for them
            one_BCHW = batch.pixels_BCHW[:1].to(self.last_weight().dtype)
            return Part(0.0 * self.discriminator(one_BCHW).sum(), batch.num_samples, 0.0)
        with torch.no_grad():
            made = self.make(batch)
        logits = self.discriminator(torch.cat([made.target_BCHW, made.pixels_BCHW.to(made.target_BCHW.dtype)]))
        return Part(discriminator_hinge(*logits.chunk(2)).sum(), len(made.target_BCHW))

    def part_names(self) -> list[str]:
        """The reconstruction's and the game's parts of the generator's phase; a subclass adds its own."""
        weights = self.judged_by
        named = {"l1": weights.l1, "l2": weights.l2, "perceptual": weights.perceptual, "adversarial": self.playing}
        return [name for name, there in named.items() if there]

    def counts(self, batch: PictureBatch, phase: str = "main") -> dict[str, float]:
        names = [DISCRIMINATOR] if phase == DISCRIMINATOR else self.part_names()
        return dict.fromkeys(names, float(batch.num_samples))

    def after_step(self) -> None:
        self.steps += 1
