"""CLIP-rocket: CLIP on a weak pair and on strong pairs, through heads of their own.

Fini et al. 2023, "Improved baselines for vision-language pre-training", arXiv 2305.08675. Both sides of a pair are
augmented: the weak pair goes through CLIP's linear heads, strong views of picture and caption through the same towers
and non-linear heads with batch norm. With g the loss of the weak pairs and l that of the strong ones, the mean over all
V x V crossings of strong pictures and strong texts, with smoothed labels,

    L = (g + V l) / (1 + V)

At inference both pairs of heads are asked, and their similarities interpolated: w weak + (1 - w) strong. The encodings
are [sqrt(w) weak, sqrt(1 - w) strong], unit vectors whose cosine is that number, so every benchmark can be met.

Departures: the towers are our CLIP's; the weak caption is the caption (the released code drops its stop words, too,
four times out of five); the text tower has no dropout or drop path on strong texts, which the released runs mostly
leave at 0 as well; synonyms are the table of `data.words.text_augment`, not WordNet's.

B batch, N pairs or rows, V strong views, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.task import Features, LocalOutput
from diptych.data.batches.augmented_pairs import Augmentation, AugmentedBatch, AugmentedProcessor
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.text_augment import TextAugmentation
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.projector import Projector
from diptych.models.contrastive import clip
from diptych.models.contrastive._options import PairOptions
from diptych.models.contrastive._strong_views import clip_part, strong_vectors
from diptych.models.contrastive.clip import Clip, ClipPredictor, ClipTask
from diptych.objectives.contrastive import CLIP_SCALE_MAX
from diptych.objectives.label_smoothing import smoothed_info_nce

VERBS = ("encode_image", "encode_text")
STRONG_SCALE_INIT = math.log(1 / 0.1)
"""The strong pairs' log scale at initialisation; CLIP's own starts at ln(1 / 0.07)."""


@dataclass(frozen=True)
class Config(clip.Config):
    """CLIP's sizes and the strong heads.

    Attributes:
        views: strong views V of a pair; 0 is CLIP, to the bit.
        strong_hidden: of the strong heads, which end in CLIP's width.
        smoothing: of the labels of strong pairs.
        weak_share: w, the weight of the weak heads' similarity at inference.
        sides: whether the image side's and the text side's losses are averaged ("mean") or added up ("sum").
    """

    views: int = 2
    strong_hidden: int = 4096
    smoothing: float = 0.1
    weak_share: float = 0.5
    sides: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.views < 0:
            raise ConfigError(f"views {self.views} must be 0 or more")
        for name in ("smoothing", "weak_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)} must be in [0, 1]")

    @classmethod
    def tiny(cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8) -> Config:
        """Trains on a CPU in a few minutes."""
        towers = clip.Config.tiny(vocab_size, image_size, patch_size)
        return cls(towers.vision, towers.text, towers.width, strong_hidden=256)


class StrongHeads(nn.Module):
    """A projector a side and the log of the scale, for strong pairs."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.image = Projector(config.vision.width, config.strong_hidden, config.width)
        self.text = Projector(config.text.width, config.strong_hidden, config.width)
        self.log_scale = nn.Parameter(torch.tensor(STRONG_SCALE_INIT))


class ClipRocket(Clip):
    """A CLIP and its strong heads, asked together: what a predictor holds. Its parts are those it is given.

    Args:
        weak_share: w.
    """

    def __init__(self, towers: Clip, strong: StrongHeads, weak_share: float) -> None:
        nn.Module.__init__(self)
        for name, part in towers.named_children():
            setattr(self, name, part)
        self.log_scale = towers.log_scale
        self.strong = strong
        self.weak_share = weak_share

    def encode_image(self, pixels_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """Unit vectors [B, 2 D]; the arguments are CLIP's."""
        vectors_BD = self.vision(self.normalise(pixels_BCHW), kept_BK)
        return self._both(self.image_head(vectors_BD), self.strong.image(vectors_BD))

    def encode_text(self, tokens_BT: Tensor, lengths_B: Tensor, places_BT: Tensor | None = None) -> Tensor:
        """Unit vectors [B, 2 D]; the arguments are CLIP's."""
        vectors_BD = self.read_text(tokens_BT, lengths_B, places_BT)
        return self._both(self.text_head(vectors_BD), self.strong.text(vectors_BD))

    def _both(self, weak_BD: Tensor, strong_BD: Tensor) -> Tensor:
        weak_BD, strong_BD = F.normalize(weak_BD, dim=-1), F.normalize(strong_BD, dim=-1)
        return torch.cat([self.weak_share**0.5 * weak_BD, (1 - self.weak_share) ** 0.5 * strong_BD], dim=-1)


class ClipRocketTask(ClipTask):
    """CLIP's loss of the weak pairs and that of the strong ones, over the global batch."""

    config: Config

    def __init__(self, config: Config, processor: AugmentedProcessor, options: PairOptions | None = None) -> None:
        super().__init__(config, processor, options)
        check_views(config, processor.augmentation)
        self.strong = StrongHeads(config) if config.views else None

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        found = super().features(batch, phase)
        if self.strong is None:
            return found
        assert isinstance(batch, AugmentedBatch)
        strong = Features(
            strong_image=strong_vectors(self, batch),
            strong_text=torch.stack([self.model.read_text(*rows) for rows in batch.strong_texts], dim=1),
        )
        return LocalOutput(Features({**found.features, **strong}), found.parts)

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        losses, views = super().losses_from(features, phase), self.config.views
        sides = 2.0 if self.config.sides == "sum" else 1.0
        weighted = {name: part._replace(weight=part.weight * sides / (1 + views)) for name, part in losses.items()}
        if self.strong is None:
            return weighted
        pairs, loss = len(features["strong_image"]), self._between_strong_pairs(self.strong, features)
        return {**weighted, "strong": Part(loss * pairs, pairs, sides * views / (1 + views), Scope.GLOBAL_BATCH)}

    def _between_strong_pairs(self, heads: StrongHeads, features: Features) -> Tensor:
        """The mean over all crossings of strong pictures and strong texts."""
        images = [F.normalize(heads.image(rows_ND), dim=-1) for rows_ND in features["strong_image"].unbind(1)]
        texts = [F.normalize(heads.text(rows_ND), dim=-1) for rows_ND in features["strong_text"].unbind(1)]
        scale, smoothing = heads.log_scale.exp(), self.config.smoothing
        crossed = [smoothed_info_nce(image, text, scale, smoothing) for image, text in product(images, texts)]
        return torch.stack(crossed).mean()

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps both scales in [1, 100]."""
        super().after_step()
        if self.strong is not None:
            self.strong.log_scale.clamp_(0, CLIP_SCALE_MAX)

    def summary(self) -> dict[str, float]:
        found = super().summary()
        return found if self.strong is None else {**found, "strong_scale": float(self.strong.log_scale.detach().exp())}

    def predictor(self) -> ClipPredictor:
        """With strong heads one that interpolates; without, a CLIP."""
        if self.strong is None:
            return ClipPredictor(clip_part(self.config), self.processor, self.model, "clip_rocket")
        module = ClipRocket(self.model, self.strong, self.config.weak_share)
        return ClipRocketPredictor(self.config, self.processor, module, "clip_rocket")


class ClipRocketPredictor(ClipPredictor):
    """Encodes pictures and strings; the cosine is w times the weak heads' and 1 - w times the strong heads'."""

    VERBS = VERBS
    CONFIG = Config
    config: Config
    module: ClipRocket

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> ClipRocket:  # type: ignore[override]
        return ClipRocket(ClipPredictor.build(config, processor), StrongHeads(config), config.weak_share)


def check_views(config: Config, augmentation: Augmentation) -> None:
    """Raises a ConfigError when the processor does not make the strong views that the model takes."""
    if augmentation.views != config.views:
        raise ConfigError(
            f"the model takes {config.views} strong views, the processor makes {augmentation.views}: give both the "
            f"same number"
        )
    if config.views and augmentation.text is None:
        raise ConfigError(
            "CLIP-rocket crosses strong pictures with strong texts, and the processor makes no strong texts: give "
            "augmentation.text"
        )


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, ClipRocketTask]:
    """Its one task at its smallest, with a tokenizer fitted to the samples.

    Labels are not smoothed: the loss has a floor then, below which nothing can be memorised.
    """
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    processor = AugmentedProcessor(settings, tokenizer, Augmentation(text=TextAugmentation()))
    config = replace(Config.tiny(tokenizer.vocab_size, image_size=32), smoothing=0.0)
    return {"contrastive": ClipRocketTask(config, processor)}
