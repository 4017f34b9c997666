"""MaskVLM's modules: two encoders that see one side each, two cross-modality encoders, and what predicts.

B batch, N pairs, P patches, T image or text tokens, K hidden patches, M masked words, D width, E joint width, V
vocabulary, X values of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.layers.bert import INITIAL_STD, BertConfig, MaskedWordHead, rows_at
from diptych.layers.cross_attention import CrossTransformer
from diptych.layers.feature_map import BackboneMap
from diptych.layers.normalise import Normalise
from diptych.layers.pixel_patches import covered
from diptych.layers.text_transformer import TextConfig, TextTransformer
from diptych.layers.vision_transformer import VisionConfig, VisionTransformer
from diptych.objectives.contrastive import CLIP_SCALE_INIT


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes of all parts; a cross-modality encoder has the width and heads of its side.

    Attributes:
        vision: of the image encoder, read at its class token.
        text: of the text encoder, bidirectional and read at its start token.
        width: of the joint space of the two encoders.
        cross_depth: blocks of each cross-modality encoder.
        decoder_depth: blocks of the image decoder.
        text_free: whether hidden patches are reconstructed from an empty text instead of the caption, in training and
            when asked: the control that shows what captions give.
    """

    vision: VisionConfig = field(default_factory=lambda: VisionConfig(patch_size=16))
    text: TextConfig = field(
        default_factory=lambda: TextConfig(50265, 40, width=768, heads=12, hidden=3072, causal=False)
    )
    width: int = 256
    cross_depth: int = 3
    decoder_depth: int = 3
    text_free: bool = False

    def __post_init__(self) -> None:
        if self.vision.pooling != "cls" or self.vision.class_tokens != 1:
            raise ConfigError(
                f"the image encoder is read at one class token: vision.pooling is '{self.vision.pooling}' with "
                f"{self.vision.class_tokens} of them; set it to 'cls' and class_tokens to 1"
            )
        if self.text.causal or self.text.padding != "ignored":
            raise ConfigError(
                "a masked word is predicted from what comes before and after it: set text.causal to False, and "
                "text.padding to 'ignored'"
            )

    @classmethod
    def base(cls) -> Config:
        """ViT-B/16 at 224 pixels, a text encoder of the size of RoBERTa-base, 3 blocks each side: 296 M parameters."""
        return cls()

    @classmethod
    def tiny(
        cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8, width: int = 96, depth: int = 3
    ) -> Config:
        """Trains on a CPU in a few minutes; heads are 32 wide."""
        heads, hidden = width // 32, 4 * width
        vision = VisionConfig(image_size, patch_size, width, depth, heads, hidden, eps=1e-5)
        text = TextConfig(vocab_size, 64, width, depth, heads, hidden, causal=False)
        return cls(vision, text, width=64, cross_depth=2, decoder_depth=1)

    def with_vocabulary(self, size: int) -> Config:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))


class States(NamedTuple):
    """Every token of both encoders after their last norms; the class and the start token are the first.

    Attributes:
        image_BTD, text_BTD: hidden states; a text's are of no meaning on its padding.
    """

    image_BTD: Tensor
    text_BTD: Tensor


class Fusion(nn.Module):
    """The cross-modality encoders and the matching head: all that looks at a picture and a text together at once.

    Each side attends to itself, then to the other side's encoder, which stays as it is.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        vision, text, depth = config.vision, config.text, config.cross_depth
        self.image = _stack(vision, text.width, depth)
        self.text = _stack(text, vision.width, depth)
        self.match = nn.Linear(vision.width + text.width, 2)
        nn.init.normal_(self.match.weight, std=INITIAL_STD)
        nn.init.zeros_(self.match.bias)

    def picture(self, image_BTD: Tensor, text_BTD: Tensor, lengths_B: Tensor, first: bool = False) -> Tensor:
        """The picture's tokens given the text [B, T, D], or the class token's [B, D]."""
        out: Tensor = self.image(image_BTD, text_BTD, None, inside(text_BTD, lengths_B), first)
        return out

    def words(self, text_BTD: Tensor, lengths_B: Tensor, image_BTD: Tensor, first: bool = False) -> Tensor:
        """The text's tokens given the picture [B, T, D], or the start token's [B, D]."""
        out: Tensor = self.text(text_BTD, image_BTD, inside(text_BTD, lengths_B), None, first)
        return out

    def matching(self, image_NTD: Tensor, text_NTD: Tensor, lengths_N: Tensor) -> Tensor:
        """Logits [N, 2] of "they do not match" and "they match"."""
        of_image_ND = self.picture(image_NTD, text_NTD, lengths_N, first=True)
        of_text_ND = self.words(text_NTD, lengths_N, image_NTD, first=True)
        out: Tensor = self.match(torch.cat([of_image_ND, of_text_ND], dim=-1))
        return out


class MaskVlm(nn.Module):
    """Encoders, fusion, image decoder and word head; the word head's output matrix is that of the embeddings."""

    def __init__(
        self, config: Config, mean: Sequence[float], std: Sequence[float], backbone: BackboneMap | None = None
    ) -> None:
        super().__init__()
        vision, text = config.vision, config.text
        self.patch_size = vision.patch_size
        self.normalise = Normalise(mean, std)
        self.vision = VisionTransformer(vision, backbone)
        self.text = TextTransformer(text)
        self.image_head = nn.Linear(vision.width, config.width, bias=False)
        self.text_head = nn.Linear(text.width, config.width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(CLIP_SCALE_INIT))
        self.fusion = Fusion(config)
        self.decoder = _stack(vision, text.width, config.decoder_depth)
        self.pixels = nn.Linear(vision.width, 3 * vision.patch_size**2)
        self.words = MaskedWordHead(BertConfig(text.vocab_size, width=text.width, eps=text.eps))
        for head in (self.image_head, self.text_head):
            nn.init.normal_(head.weight, std=head.in_features**-0.5)
        nn.init.normal_(self.pixels.weight, std=INITIAL_STD)
        nn.init.zeros_(self.pixels.bias)

    def forward(self, image_NCHW: Tensor, tokens_MT: Tensor, lengths_M: Tensor, first: bool = False) -> States:
        """States of normalised pictures and of texts, of which there may be more: the door that torch.compile watches.

        Args:
            first: whether the class and start tokens [N, 1, D] are all that is wanted, for about a block less.
        """
        if first:
            return States(self.vision(image_NCHW)[:, None], self.text.first(tokens_MT, lengths_M)[:, None])
        return States(self.vision.tokens(image_NCHW), self.text.tokens(tokens_MT, lengths_M))

    def covered(self, image_BCHW: Tensor, hidden_BP: Tensor) -> Tensor:
        """The normalised pictures with the mean colour, which is 0, in place of the hidden patches."""
        return covered(image_BCHW, hidden_BP, self.patch_size)

    def joint_image(self, first_BD: Tensor) -> Tensor:
        """Unit vectors [B, E] of class tokens."""
        return F.normalize(self.image_head(first_BD), dim=-1)

    def joint_text(self, first_BD: Tensor) -> Tensor:
        """Unit vectors [B, E] of start tokens."""
        return F.normalize(self.text_head(first_BD), dim=-1)

    def predicted_pixels(
        self, image_BTD: Tensor, text_BTD: Tensor, lengths_B: Tensor, places_BK: Tensor | None = None
    ) -> Tensor:
        """Normalised pixels of all patches [B, P, X], or of those at some places [B, K, X].

        Args:
            image_BTD: states of the covered picture.
            text_BTD, lengths_B: states of the text that it is reconstructed from.
        """
        fused_BTD = self.fusion.picture(image_BTD, text_BTD, lengths_B)
        decoded_BTD = self.decoder(fused_BTD, text_BTD, None, inside(text_BTD, lengths_B))
        patches_BPD = decoded_BTD[:, 1:]
        out: Tensor = self.pixels(patches_BPD if places_BK is None else rows_at(patches_BPD, places_BK))
        return out

    def word_logits(self, rows_MD: Tensor) -> Tensor:
        """Logits [M, V] of the text side's tokens."""
        out: Tensor = self.words(rows_MD, self.text.embedding.weight)
        return out

    def checkpoint_activations(self, on: bool) -> None:
        """Recomputes each block in the backward pass: memory for time."""
        fusion = self.fusion
        for stack in (self.vision.transformer, self.text.transformer, fusion.image, fusion.text, self.decoder):
            stack.checkpointing = on


def _stack(side: VisionConfig | TextConfig, context_width: int, depth: int) -> CrossTransformer:
    """Blocks of one side's sizes that read the other side."""
    return CrossTransformer(side.width, context_width, depth, side.heads, side.hidden, side.activation, side.eps)


def inside(rows_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """[B, 1, T], True where a token is not padding."""
    return (torch.arange(rows_BTD.shape[1], device=lengths_B.device) < lengths_B[:, None])[:, None]
