"""Two towers that meet in one space: the module, the task up to the loss, and the predictor of CLIP and SigLIP.

B batch, N pictures or texts, C channels, H height, W width, K kept patches, T tokens, D embedding width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.task import Features, GlobalTask, LocalOutput
from diptych.data.batches.image_text import ImageTextBatch, ImageTextProcessor
from diptych.data.words.tokenizer import text_labels
from diptych.layers.length_buckets import in_length_buckets, most_buckets
from diptych.layers.masking import kept_patches, kept_tokens, patches_kept
from diptych.layers.modified_resnet import ModifiedResNet, ResNetConfig
from diptych.layers.normalise import Normalise
from diptych.layers.text_transformer import TextConfig, TextTransformer
from diptych.layers.vision_transformer import VisionTransformer
from diptych.models._batches import batches
from diptych.models._image_text_predictor import ImageTextPredictor
from diptych.models.contrastive._check_fit import Vision
from diptych.models.contrastive._options import PairOptions

PREDICTION_BATCH = 256


class Embeddings(NamedTuple):
    """Unit vectors of both sides."""

    image_BD: Tensor
    text_BD: Tensor


class _Texts(NamedTuple):
    """What a text tower is given."""

    tokens_NT: Tensor
    lengths_N: Tensor
    places_NT: Tensor | None = None


class TwoTowers(nn.Module):
    """Two independent towers; `image_head` and `text_head` map their vectors to the joint space."""

    image_head: nn.Module
    text_head: nn.Module
    vision: VisionTransformer | ModifiedResNet

    def __init__(self, vision: Vision, text: TextConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.vision = ModifiedResNet(vision) if isinstance(vision, ResNetConfig) else VisionTransformer(vision)
        self.text = TextTransformer(text)

    @property
    def patch_tower(self) -> VisionTransformer:
        """The vision tower of a model that has to have patches."""
        assert isinstance(self.vision, VisionTransformer), "a ResNet has no patches"
        return self.vision

    def encode_image(self, pixels_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """Unit vectors [B, D] of uint8 or prepared pixels.

        Args:
            kept_BK: places of the patches that are seen, in raster order; None for all.
        """
        return F.normalize(self.image_head(self.vision(self.normalise(pixels_BCHW), kept_BK)), dim=-1)

    def encode_text(self, tokens_BT: Tensor, lengths_B: Tensor, places_BT: Tensor | None = None) -> Tensor:
        """Unit vectors [B, D] of padded tokens.

        Args:
            places_BT: the tokens' positions, where some were dropped.
        """
        return F.normalize(self.text_head(self.read_text(tokens_BT, lengths_B, places_BT)), dim=-1)

    def read_text(self, tokens_BT: Tensor, lengths_B: Tensor, places_BT: Tensor | None = None) -> Tensor:
        """The text tower's vectors [B, W], before any head, computed on as little padding as may be."""
        if self.text.config.padding == "constant":
            out: Tensor = self.text(tokens_BT, lengths_B, places_BT)
            return out
        if places_BT is None:
            return in_length_buckets(self.text, tokens_BT, lengths_B, most_buckets(self.text))
        both_BT2 = torch.stack([tokens_BT, places_BT], dim=-1)

        def read(both: Tensor, lengths: Tensor) -> Tensor:
            out: Tensor = self.text(both[..., 0], lengths, both[..., 1])
            return out

        return in_length_buckets(read, both_BT2, lengths_B, most_buckets(self.text))

    def forward(
        self,
        pixels_BCHW: Tensor,
        tokens_NT: Tensor,
        lengths_N: Tensor,
        places_NT: Tensor | None = None,
        kept_BK: Tensor | None = None,
    ) -> Embeddings:
        """Both sides of a batch, which may have more texts than pictures: the one door, which torch.compile watches."""
        return Embeddings(self.encode_image(pixels_BCHW, kept_BK), self.encode_text(tokens_NT, lengths_N, places_NT))

    def checkpoint_activations(self, on: bool) -> None:
        """Recomputes each block in the backward pass: memory for time.

        Raises:
            ConfigError: a ResNet tower, whose running statistics would count each batch twice.
        """
        if isinstance(self.vision, VisionTransformer):
            self.vision.transformer.checkpointing = on
        elif on:
            raise ConfigError("a ResNet tower cannot recompute its activations: leave checkpointing off")
        self.text.transformer.checkpointing = on


class TwoTowerTask(GlobalTask[ImageTextBatch]):
    """Both sides of each pair, and hard negatives where the batch has them; a subclass adds the loss between them.

    Attributes:
        options: what of a pair is masked in training, and what counts as a pair.
    """

    model: TwoTowers
    processor: ImageTextProcessor
    options: PairOptions

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        """Unit vectors "image" and "text"; of batches with hard negatives also "negative" [B, D] and "wanted" [B]; with
        `same_text` also "caption" [B], equal numbers for equal captions."""
        found = self.model(batch.pixels_BCHW, *self._texts(batch), kept_BK=self.kept_patches(batch))
        pairs = batch.num_samples
        rows = Features(image=found.image_BD, text=found.text_BD[:pairs])
        if batch.negatives is not None:
            rows |= {"negative": found.text_BD[pairs:], "wanted": batch.negatives.wanted_B}
        if self.options.same_text:
            rows["caption"] = text_labels(batch.tokens_BT, batch.lengths_B)
        return LocalOutput(rows)

    def kept_patches(self, batch: ImageTextBatch, purpose: str = "patches") -> Tensor | None:
        """Places [B, K] of the patches that are seen in training; None for all.

        Args:
            purpose: names the draw; another one is for another view of the same pictures.
        """
        ratio = self.options.masking.image
        if ratio == 0:
            return None
        height, width = batch.pixels_BCHW.shape[-2:]
        size = self.model.patch_tower.config.patch_size
        patches = (height // size) * (width // size)
        kept_BK = kept_patches(batch.seeds, patches, patches_kept(patches, ratio), purpose)
        return kept_BK.to(batch.pixels_BCHW.device)

    def _texts(self, batch: ImageTextBatch) -> _Texts:
        """The captions, then the hard negatives where there are any, without the tokens that are masked."""
        texts, masking, seeds = _Texts(batch.tokens_BT, batch.lengths_B), self.options.masking, batch.seeds
        if (hard := batch.negatives) is not None:
            tokens_NT = torch.cat([batch.tokens_BT, hard.tokens_BT])
            texts, seeds = _Texts(tokens_NT, torch.cat([batch.lengths_B, hard.lengths_B])), seeds * 2
        if masking.text == 0:
            return texts
        first = int(self.processor.tokenizer.start_id is not None)
        context = self.processor.config.text.max_length if masking.padding_first else None
        return _Texts(*kept_tokens(seeds, texts.tokens_NT, texts.lengths_N, masking.text, first, context))

    def checkpoint_activations(self, on: bool) -> None:
        self.model.checkpoint_activations(on)

    @abstractmethod
    def predictor(self) -> TwoTowerPredictor:
        """The model with its processor; shares the weights."""


class TwoTowerPredictor(ImageTextPredictor[ModelConfig, TwoTowers]):
    """Encodes pictures and strings; any number, in batches."""

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, D] on the CPU.

        Args:
            visuals: paths, PIL images, arrays, bytes or Images; or one prepared float tensor [N, 3, H, W].
        """
        rows = []
        for some in batches(visuals, PREDICTION_BATCH):
            pixels = some if isinstance(some, Tensor) else self.processor.pixels(some)
            rows.append(self.module.encode_image(pixels.to(self.device)).float().cpu())
        return torch.cat(rows) if rows else torch.zeros(0)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [N, D] on the CPU."""
        rows = []
        for some in batches(texts, PREDICTION_BATCH):
            tokens_BT, lengths_B = self.processor.tokens(some)
            rows.append(self.module.encode_text(tokens_BT.to(self.device), lengths_B.to(self.device)).float().cpu())
        return torch.cat(rows) if rows else torch.zeros(0)
