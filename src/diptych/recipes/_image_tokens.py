"""Image tokenizers for models that write their codes: a small one, and the stage that trains one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.core.task import Task
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.quantizer import QuantizerConfig
from diptych.models.generative._picture_codes import PictureCodes, VitPictures, VqPictures
from diptych.models.image_tokenizer import vit_vqgan, vq
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._progress_pictures import there_and_back
from diptych.training.run import Run
from diptych.training.stages import Context, Train

NAME = "codes"


def small_codes(codes: int = 128) -> VqPictures:
    """32 pixels as 8 x 8 codes, each of a square of 4 x 4 pixels."""
    autoencoder = AutoencoderConfig((48,), blocks=1, latent=48, groups=8, attention=False, patch=4)
    return VqPictures(tokenizer=vq.Config(autoencoder, QuantizerConfig(codes, 16, restart_every=10)), image_size=32)


def require_size(codes: PictureCodes, image: ImagePreprocessing) -> None:
    """Raises a ConfigError where a run's pictures are of another size than those that are coded."""
    if image.size != codes.image_size:
        raise ConfigError(f"image.size {image.size} and model.codes.image_size {codes.image_size} must be the same")


def image_tokens(
    codes: PictureCodes, image: ImagePreprocessing, stage: EarlierStage, run: Run, source: Callable[[], Source],
    held_out: Callable[[], Source],
) -> Train:  # fmt: skip
    """Reconstruction of the run's pictures.

    Args:
        held_out: pictures whose reconstructions are kept to be looked at.
    """
    whole = replace(image, size=codes.image_size, mean=codes.mean, std=codes.std, views=None)

    def task(context: Context) -> Task[PictureBatch]:
        processor = PictureProcessor(whole)
        if isinstance(codes, VqPictures):
            return vq.VqTask(codes.tokenizer, processor)
        if not isinstance(codes, VitPictures):
            raise ConfigError("a tokenizer without a decoder cannot be trained: choose VqPictures or VitPictures")
        return vit_vqgan.VitVqganTask(codes.tokenizer, processor)

    return Train(
        NAME,
        source=lambda context: source(),
        task=task,
        show=lambda context: there_and_back(held_out()),
        settings=stage.applied_to(run),
    )


def trained_tokens(context: Context) -> dict[str, Tensor]:
    """The tokenizer's weights that the stage ended with."""
    return part_of(context.trained(NAME), "model.")


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights of a part of a trained task."""
    return {name.removeprefix(prefix): rows for name, rows in state.items() if name.startswith(prefix)}
