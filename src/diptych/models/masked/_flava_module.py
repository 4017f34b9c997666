"""FLAVA's module: encoders, heads and codebook, and one pass over a mixed batch.

N rows, M rows read at CLS alone, F fused rows, T tokens, P patches, S = 1 + (1 + P) + T states, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.layers.feature_map import BackboneMap
from diptych.layers.length_buckets import most_buckets, rows_by_length
from diptych.layers.normalise import Normalise
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.masked._flava_codes import Codes, codes_of, frozen_codebook
from diptych.models.masked._flava_encoders import (
    FusionConfig,
    FusionEncoder,
    ImageEncoder,
    MatchingHead,
    PredictionHead,
    TextEncoder,
)


class Images(NamedTuple):
    """Rows of pictures for the image encoder.

    Attributes:
        hidden_NP: bool, True where a patch is hidden.
        whole: how many rows, from the first on, are read at all positions.
    """

    pixels_NCHW: Tensor
    hidden_NP: Tensor
    whole: int


class Texts(NamedTuple):
    """Rows of tokens for the text encoder, likewise."""

    tokens_NT: Tensor
    lengths_N: Tensor
    whole: int


class Outputs(NamedTuple):
    """What one pass gives.

    Attributes:
        image_NTD, text_NTD: states before the last norm of masked rows that are alone.
        image_MD, text_MD: unit vectors of the other rows.
        fused_FMD: the states of the multimodal encoder that were asked for, before its last norm.
    """

    image_NTD: Tensor
    text_NTD: Tensor
    image_MD: Tensor
    text_MD: Tensor
    fused_FMD: Tensor


@dataclass(frozen=True)
class FlavaSizes(ModelConfig):
    """What the module is built of; the model file has the defaults.

    Attributes:
        width: of the space in which pictures and texts are compared.
        codes: what hidden patches are predicted as.
    """

    vision: VisionConfig
    text: TextConfig
    fusion: FusionConfig
    width: int
    codes: Codes


class Flava(nn.Module):
    """Image encoder, text encoder, multimodal encoder, a head a term, and the frozen codebook."""

    def __init__(
        self, config: FlavaSizes, mean: Sequence[float], std: Sequence[float], backbone: BackboneMap | None = None
    ) -> None:
        super().__init__()
        if config.vision.pooling != "cls" or config.vision.class_tokens != 1 or config.vision.pre_norm:
            raise ConfigError("FLAVA's image encoder has one class token, and no norm before its blocks")
        vision, text, fusion = config.vision, config.text, config.fusion
        self.normalise = Normalise(mean, std)
        self.image = ImageEncoder(vision, backbone)
        self.text = TextEncoder(text)
        self.fusion = FusionEncoder(fusion, vision.width, text.width)
        self.image_head = nn.Linear(vision.width, config.width)
        self.text_head = nn.Linear(text.width, config.width)
        self.log_scale = nn.Parameter(torch.tensor(2.6592))  # the released code's value of CLIP's ln(1 / 0.07)
        codes, words = config.codes.vocabulary, text.vocab_size
        self.mim = PredictionHead(vision.width, codes, vision.activation, vision.eps)
        self.mlm = PredictionHead(text.width, words, text.activation, text.eps)
        self.mmm_image = PredictionHead(fusion.width, codes, fusion.activation, fusion.eps)
        self.mmm_text = PredictionHead(fusion.width, words, fusion.activation, fusion.eps)
        self.itm = MatchingHead(fusion.width)
        self.codebook = frozen_codebook(config.codes, vision)
        self.config = config

    def train(self, mode: bool = True) -> Self:
        """The codebook stays as it is."""
        super().train(mode)
        if self.codebook is not None:
            self.codebook.eval()
        return self

    def forward(self, images: Images, texts: Texts, places_FM: Tensor) -> Outputs:
        """One pass of each encoder.

        Args:
            places_FM: the multimodal states that are wanted of the first F rows, in which row i of both sides is a
                pair: CLS, the picture's CLS and patches and the text are counted in this order.
        """
        fused = len(places_FM)
        pixels_NCHW = self.normalise(images.pixels_NCHW)
        image = self.image.states(pixels_NCHW, images.hidden_NP, images.whole)
        words_NTD, lengths_N, whole = self.text.embedded(texts.tokens_NT), texts.lengths_N, texts.whole
        return Outputs(
            image.states_NTD[fused:],
            self.text.states(words_NTD[fused:whole], lengths_N[fused:whole]),
            F.normalize(self.image_head(image.first_MD), dim=-1),
            F.normalize(self.text_head(self.text.first(words_NTD[whole:], lengths_N[whole:])), dim=-1),
            self._fused(image.states_NTD[:fused], words_NTD[:fused], lengths_N[:fused], places_FM),
        )

    def _fused(self, image_FID: Tensor, words_FTD: Tensor, lengths_F: Tensor, places_FM: Tensor) -> Tensor:
        """Some multimodal states [F, M, D] of pairs, computed on as little padding of the texts as may be."""
        pieces = rows_by_length(lengths_F, most_buckets(self))
        found = []
        for rows, longest in pieces:
            text = self.text.states(words_FTD[rows, :longest], lengths_F[rows])
            found.append(self.fusion(image_FID[rows], text, lengths_F[rows], places_FM[rows]))
        return torch.cat(found)[torch.cat([rows for rows, _ in pieces]).argsort()]

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """Unit vectors [B, D] of pictures with nothing hidden."""
        hidden_BP = self.nothing_hidden(len(pixels_BCHW), pixels_BCHW.device)
        first_BD = self.image.states(self.normalise(pixels_BCHW), hidden_BP, 0).first_MD
        return F.normalize(self.image_head(first_BD), dim=-1)

    def encode_text(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Unit vectors [B, D] of texts."""
        return F.normalize(self.text_head(self.text.first(self.text.embedded(tokens_BT), lengths_B)), dim=-1)

    def fuse(
        self, pixels_NCHW: Tensor, hidden_NP: Tensor, tokens_BT: Tensor, lengths_B: Tensor, rows_B: Tensor | None = None
    ) -> Tensor:
        """Multimodal states [B, S, D] of pairs, before the last norm.

        Args:
            rows_B: the picture of each text, for pictures that belong to several; None where N = B are in order.
        """
        image_NTD = self.image.states(self.normalise(pixels_NCHW), hidden_NP, len(pixels_NCHW)).states_NTD
        image_BTD = image_NTD if rows_B is None else image_NTD[rows_B]
        out: Tensor = self.fusion(image_BTD, self.text.states(self.text.embedded(tokens_BT), lengths_B), lengths_B)
        return out

    def nothing_hidden(self, rows: int, device: torch.device) -> Tensor:
        """[rows, P], all False."""
        return torch.zeros(rows, self.config.vision.grid**2, dtype=torch.bool, device=device)

    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        """The code of every patch [B, P].

        Raises:
            ConfigError: the model has no codebook.
        """
        codes = self.config.codes
        if self.codebook is None or not hasattr(codes, "image_size"):
            raise ConfigError(
                "this FLAVA has no codebook to tell the codes of pictures: give the codes with the batch, or set the "
                "weights mim and mmm_image to 0"
            )
        return codes_of(self.codebook, pixels_BCHW, codes.image_size)

    def checkpoint_activations(self, on: bool) -> None:
        """Recomputes each block in the backward pass: memory for time."""
        for encoder in (self.image, self.text, self.fusion):
            encoder.transformer.checkpointing = on


def patches_of(states_NSD: Tensor, patches: int) -> Tensor:
    """The patches among multimodal states: after CLS and the picture's CLS."""
    return states_NSD[:, 2 : 2 + patches]


def words_of(states_NSD: Tensor, patches: int) -> Tensor:
    """The tokens among multimodal states."""
    return states_NSD[:, 2 + patches :]
