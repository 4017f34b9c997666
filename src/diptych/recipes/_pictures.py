"""What runs on pictures alone have in common: image tokenizers and autoencoders. Captions are not looked at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.core.source import Source
from diptych.core.task import Task
from diptych.data.batches.pictures import PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.pixels.tower_inputs import read_tower_images
from diptych.evaluation.runner import evaluate
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.perceptual_network import BackboneFeatures, PerceptualNetwork
from diptych.recipes._pairs import split_data
from diptych.recipes._progress_pictures import there_and_back
from diptych.training.run import Run
from diptych.training.stages import Context, Evaluate, Stage, Train

SELECTED_BY = "psnr"
CENTRED = (0.5, 0.5, 0.5)
"""Mean and deviation of pixels: values from -1 to 1."""


def centred(size: int) -> ImagePreprocessing:
    """Pictures of this side, whole, values from -1 to 1."""
    return ImagePreprocessing(size, mean=CENTRED, std=CENTRED, views=None)


def fine_convolutions(latent: int) -> AutoencoderConfig:
    """64 pixels to 16 x 16 places, a square of 4 x 4 pixels each; narrow, for in minutes many steps learn most.

    Args:
        latent: channels of a place.
    """
    return AutoencoderConfig((32,), blocks=1, latent=latent, groups=8, attention=False, patch=4)


@dataclass(frozen=True, kw_only=True)
class PictureRun(Run):
    """A model of pictures from scratch, selected by what comes back of held-out ones.

    Attributes:
        held_out: how many training samples to select on instead, where the data has no "val" split of its own.
        perceptual_backbone: a `transformers` folder of an image backbone whose features judge how pictures look; "" for
            a random convolutional network. Only for models that are judged so.
    """

    image: ImagePreprocessing = field(default_factory=lambda: centred(64))
    held_out: int = 500
    perceptual_backbone: str = ""

    @abstractmethod
    def task(self, processor: PictureProcessor) -> Task[Any]:
        """The task with fresh weights."""

    def stages(self) -> Sequence[Stage]:
        def task(context: Context) -> Task[Any]:
            return self.task(PictureProcessor(self.image))

        return (
            Train(
                "train",
                source=lambda context: split_data(self.data, self.held_out)[0],
                task=task,
                evaluate=lambda context: reconstruction_on(split_data(self.data, self.held_out)[1]),
                best=SELECTED_BY,
                show=lambda context: there_and_back(split_data(self.data, self.held_out)[1]),
            ),
        )

    def perceptual_network(self) -> PerceptualNetwork | None:
        """The backbone's features where one is named; None for the model's own choice."""
        if not self.perceptual_backbone:
            return None
        folder = Path(self.perceptual_backbone)
        expected = read_tower_images(folder)
        return BackboneFeatures.read(folder, expected.mean, expected.std)


def reconstruction_on(source: Source, limit: int = 500) -> Evaluate:
    """Decibels on held-out pictures, and how the codes of a model that has some are used."""

    def measure(model: Predictor) -> dict[str, float]:
        (result,) = evaluate(
            model, ["reconstruction"], source, limit=limit, settings={"reconstruction": {"examples": 0}}
        )
        names = (SELECTED_BY, "gain_over_mean_colour_db", "code_perplexity", "codes_used")
        return {name: result.metrics[name].value for name in names if name in result.metrics}

    return measure
