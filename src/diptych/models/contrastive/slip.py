"""SLIP: CLIP, and SimCLR on two strong views of each picture through the same image tower.

Mu et al. 2021, "SLIP: Self-supervision meets Language-Image Pre-training", arXiv 2112.12750. To CLIP's loss on the weak
pair comes NT-Xent between two strongly augmented views, which go through the image tower and a projection head of their
own:

    L = L_CLIP + ssl_scale * L_SimCLR

so a step has three passes of the image tower and one of the text tower. The head is for training alone: what is saved
is a CLIP. With `positives="caption"`, all views of pictures with one caption are positives of one another (StableRep,
arXiv 2306.00984).

Departures: the towers are our CLIP's, with its layer norm before the blocks.

B batch, N pairs, M = 2N views, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.task import Features, LocalOutput
from diptych.data.batches.augmented_pairs import Augmentation, AugmentedBatch, AugmentedProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextBatch, ImageTextConfig, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer, text_labels
from diptych.layers.projector import Projector
from diptych.models.contrastive import clip
from diptych.models.contrastive._options import PairOptions
from diptych.models.contrastive._strong_views import clip_part, strong_vectors
from diptych.models.contrastive.clip import ClipPredictor, ClipTask
from diptych.objectives.multi_positive import multi_positive
from diptych.objectives.simclr import TEMPERATURE, nt_xent

VERBS = ("encode_image", "encode_text")


@dataclass(frozen=True)
class Config(clip.Config):
    """CLIP's sizes and the SimCLR term.

    Attributes:
        ssl_scale: weight of the SimCLR term; 0 is CLIP, to the bit.
        ssl_hidden, ssl_width: of the projection head.
        ssl_temperature: of the SimCLR term; it is not learned.
        positives: whether a view's positives are the other "views" of its picture, or all views of pictures with the
            same "caption".
    """

    ssl_scale: float = 1.0
    ssl_hidden: int = 4096
    ssl_width: int = 256
    ssl_temperature: float = TEMPERATURE
    positives: Literal["views", "caption"] = "views"

    def __post_init__(self) -> None:
        if self.ssl_scale < 0:
            raise ConfigError(f"ssl_scale {self.ssl_scale} must be 0 or more")
        if self.ssl_temperature <= 0:
            raise ConfigError(f"ssl_temperature {self.ssl_temperature} must be positive")

    @classmethod
    def tiny(cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8) -> Config:
        """Trains on a CPU in a few minutes."""
        towers = clip.Config.tiny(vocab_size, image_size, patch_size)
        return cls(towers.vision, towers.text, towers.width, ssl_hidden=256, ssl_width=64)


class SlipTask(ClipTask):
    """CLIP's loss over the global batch, and SimCLR's."""

    config: Config

    def __init__(self, config: Config, processor: AugmentedProcessor, options: PairOptions | None = None) -> None:
        super().__init__(config, processor, options)
        check_views(config, processor.augmentation)
        self.projector = (
            Projector(config.vision.width, config.ssl_hidden, config.ssl_width) if config.ssl_scale else None
        )

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        found = super().features(batch, phase)
        if self.projector is None:
            return found
        assert isinstance(batch, AugmentedBatch)
        captions_B = text_labels(batch.tokens_BT, batch.lengths_B)
        strong = Features(strong=strong_vectors(self, batch), caption=captions_B)
        return LocalOutput(Features({**found.features, **strong}), found.parts)

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        losses = super().losses_from(features, phase)
        if self.projector is None:
            return losses
        first_ND, second_ND = (F.normalize(self.projector(rows), dim=-1) for rows in features["strong"].unbind(1))
        loss, pairs = self._between_views(first_ND, second_ND, features["caption"]), len(first_ND)
        return {**losses, "simclr": Part(loss * pairs, pairs, self.config.ssl_scale, Scope.GLOBAL_BATCH)}

    def _between_views(self, first_ND: Tensor, second_ND: Tensor, captions_N: Tensor) -> Tensor:
        if self.config.positives == "views":
            return nt_xent(first_ND, second_ND, self.config.ssl_temperature)
        views_MD, captions_M = torch.cat([first_ND, second_ND]), captions_N.repeat(2)
        scale = views_MD.new_tensor(1 / self.config.ssl_temperature)
        return multi_positive(views_MD, views_MD, scale, captions_M, captions_M, skip_self=True)

    def predictor(self) -> ClipPredictor:
        return ClipPredictor(clip_part(self.config), self.processor, self.model, "slip")


def check_views(config: Config, augmentation: Augmentation) -> None:
    """Raises a ConfigError when there are not the two strong views that SimCLR compares."""
    if config.ssl_scale and augmentation.views != 2:
        raise ConfigError(
            f"SLIP compares two strong views of a picture, the processor makes {augmentation.views}: set views to 2, "
            f"or ssl_scale to 0 for CLIP alone"
        )


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, SlipTask]:
    """Both kinds of positives at their smallest, with a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    processor = AugmentedProcessor(settings, tokenizer, Augmentation())
    config = Config.tiny(tokenizer.vocab_size, image_size=32)
    return {positives: SlipTask(replace(config, positives=positives), processor) for positives in ("views", "caption")}
