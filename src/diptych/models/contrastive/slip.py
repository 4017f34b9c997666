"""SLIP: CLIP, and SimCLR on two strong views of each picture through the same image tower.

Mu et al. 2021, "SLIP: Self-supervision meets Language-Image Pre-training", arXiv 2112.12750. To CLIP's loss on the weak
pair comes NT-Xent between two strongly augmented views, which go through the image tower and a projection head of their
own:

    L = L_CLIP + ssl_scale * L_SimCLR

so a step has three passes of the image tower and one of the text tower. The head is for training alone: what is saved
is a CLIP. With `positives="caption"`, all views of pictures with one caption are positives of one another (StableRep,
arXiv 2306.00984).

Departures: the towers are our CLIP's, with its layer norm before the blocks.

B batch, N pairs, V views, M = 2N views, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.task import Features, LocalOutput
from diptych.data.augmented_pairs import Augmentation, AugmentedBatch, AugmentedProcessor
from diptych.data.image_text import ImagePreprocessing, ImageTextBatch, ImageTextConfig, TextPreprocessing
from diptych.data.text import Tokenizer
from diptych.layers.projector import Projector
from diptych.models.contrastive import clip
from diptych.models.contrastive.clip import ClipPredictor, ClipTask
from diptych.objectives.multi_positive import multi_positive
from diptych.objectives.simclr import TEMPERATURE, nt_xent

VERBS = ("encode_image", "encode_text")


@dataclass(frozen=True)
class Config(ModelConfig):
    """CLIP's sizes and the SimCLR term.

    Attributes:
        clip: the towers.
        ssl_scale: weight of the SimCLR term; 0 is CLIP, to the bit.
        hidden, width: of the projection head.
        temperature: of the SimCLR term; it is not learned.
        positives: whether a view's positives are the other "views" of its picture, or all views of pictures with the
            same "caption".
    """

    clip: clip.Config = field(default_factory=clip.Config)
    ssl_scale: float = 1.0
    hidden: int = 4096
    width: int = 256
    temperature: float = TEMPERATURE
    positives: Literal["views", "caption"] = "views"

    def __post_init__(self) -> None:
        if self.ssl_scale < 0:
            raise ConfigError(f"ssl_scale {self.ssl_scale} must be 0 or more")
        if self.temperature <= 0:
            raise ConfigError(f"temperature {self.temperature} must be positive")

    @classmethod
    def vit_b16(cls) -> Config:
        """ViT-B/16 at 224 pixels, with the paper's head."""
        return cls(clip.Config.vit_b16())

    @classmethod
    def tiny(cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8) -> Config:
        """Trains on a CPU in a few minutes."""
        return cls(clip.Config.tiny(vocab_size, image_size, patch_size), hidden=256, width=64)


class SlipTask(ClipTask):
    """CLIP's loss over the global batch, and SimCLR's."""

    def __init__(self, config: Config, processor: AugmentedProcessor) -> None:
        super().__init__(config.clip, processor)
        self.ssl = config
        check_views(config, processor.augmentation)
        self.projector = Projector(config.clip.vision.width, config.hidden, config.width) if config.ssl_scale else None

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        found = super().features(batch, phase)
        if self.projector is None:
            return found
        assert isinstance(batch, AugmentedBatch)
        strong = Features(strong=self._vectors(batch.strong_BVCHW), caption=batch.captions_B)
        return LocalOutput(Features({**found.features, **strong}), found.parts)

    def _vectors(self, strong_BVCHW: Tensor) -> Tensor:
        """The image tower's vectors [B, V, D] of the strong views, before any head."""
        vectors = self.model.vision(self.model.normalise(strong_BVCHW.flatten(0, 1)))
        out: Tensor = vectors.unflatten(0, strong_BVCHW.shape[:2])
        return out

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        losses = super().losses_from(features, phase)
        if self.projector is None:
            return losses
        first_ND, second_ND = (F.normalize(self.projector(rows), dim=-1) for rows in features["strong"].unbind(1))
        loss, pairs = self._between_views(first_ND, second_ND, features["caption"]), len(first_ND)
        return {**losses, "simclr": Part(loss * pairs, pairs, self.ssl.ssl_scale, Scope.GLOBAL_BATCH)}

    def _between_views(self, first_ND: Tensor, second_ND: Tensor, captions_N: Tensor) -> Tensor:
        if self.ssl.positives == "views":
            return nt_xent(first_ND, second_ND, self.ssl.temperature)
        views_MD, captions_M = torch.cat([first_ND, second_ND]), captions_N.repeat(2)
        scale = views_MD.new_tensor(1 / self.ssl.temperature)
        return multi_positive(views_MD, views_MD, scale, captions_M, captions_M, skip_self=True)

    def predictor(self) -> ClipPredictor:
        return ClipPredictor(self.config, self.processor, self.model, "slip")


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
