"""Options of MaskVLM's training: what of a pair is masked, and the weight of each loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.layers.masking import kept_patches, patches_kept
from diptych.models.masked._maskvlm_module import MaskVlm


@dataclass(frozen=True)
class Weights:
    """Of each loss; with 0 a loss is not computed, and what only it trains is frozen.

    Attributes:
        contrastive: which text belongs to which picture, from the encoders alone.
        itm: whether a text belongs to a picture, from both cross-modality encoders.
        mlm: masked words from the other words and the picture.
        mim: hidden patches from the other patches and the text.
    """

    contrastive: float = 1.0
    itm: float = 1.0
    mlm: float = 1.0
    mim: float = 1.0

    def __post_init__(self) -> None:
        values = (self.contrastive, self.itm, self.mlm, self.mim)
        if min(values) < 0 or max(values) == 0:
            raise ConfigError(f"loss weights {values}: give 0 (off) or more each, and at least one above 0")


@dataclass(frozen=True)
class MaskVlmOptions:
    """Options of the task.

    Attributes:
        weights: of the losses.
        image_ratio: the share of a picture that is hidden where it is reconstructed.
        image_block: side in pixels of the squares that are hidden or seen as a whole: a multiple of the patch size.
        text_ratio: the share of a text's tokens that is masked where it is reconstructed.
    """

    weights: Weights = field(default_factory=Weights)
    image_ratio: float = 0.6
    image_block: int = 32
    text_ratio: float = 0.3

    def __post_init__(self) -> None:
        if not (0 < self.image_ratio < 1 and 0 < self.text_ratio <= 1):
            raise ConfigError(
                f"image_ratio {self.image_ratio} and text_ratio {self.text_ratio}: give shares above 0; something of a "
                f"picture must stay"
            )

    def hidden_count(self, image_size: int, patch_size: int) -> int:
        """How many patches of a picture are hidden.

        Raises:
            ConfigError: the squares do not fit the picture or the patches, or the ratio hides all or none of them.
        """
        blocks = self._blocks(image_size, patch_size)
        hidden = blocks - patches_kept(blocks, self.image_ratio)
        if not hidden:
            raise ConfigError(f"image_ratio {self.image_ratio} of {blocks} squares hides none: raise it")
        return hidden * (self.image_block // patch_size) ** 2

    def hidden_patches(self, seeds: Sequence[int], image_size: int, patch_size: int) -> Tensor:
        """Which patches [B, P] are hidden; row i a function of seeds[i] alone."""
        blocks = self._blocks(image_size, patch_size)
        seen_BK = kept_patches(seeds, blocks, patches_kept(blocks, self.image_ratio), "hidden squares")
        side, each = image_size // self.image_block, self.image_block // patch_size
        hidden_BN = torch.ones(len(seeds), blocks, dtype=torch.bool).scatter_(1, seen_BK, False)
        hidden_BRC = hidden_BN.view(len(seeds), side, side)
        return hidden_BRC.repeat_interleave(each, 1).repeat_interleave(each, 2).flatten(1)

    def _blocks(self, image_size: int, patch_size: int) -> int:
        block = self.image_block
        if block < 1 or block % patch_size or image_size % block:
            raise ConfigError(
                f"image_block {block}: give a multiple of the patch size {patch_size} that divides the picture's "
                f"{image_size} pixels, as {patch_size} does"
            )
        return (image_size // block) ** 2


def freeze_unused(model: MaskVlm, on: Weights) -> None:
    """What no loss with a weight reaches is not trained: DDP would wait for its gradients."""
    used: list[tuple[nn.Module | nn.Parameter, float]] = [
        *((part, on.contrastive) for part in (model.image_head, model.text_head, model.log_scale)),
        (model.fusion.image, on.itm + on.mim),
        (model.fusion.text, on.itm + on.mlm),
        (model.fusion.match, on.itm),
        (model.words, on.mlm),
        *((part, on.mim) for part in (model.decoder, model.pixels)),
    ]
    for part, weight in used:
        part.requires_grad_(weight > 0)
