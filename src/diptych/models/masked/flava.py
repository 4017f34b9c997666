"""FLAVA: an image encoder, a text encoder and a multimodal one over the states of both, trained by six losses at once.

Singh et al. 2021, "FLAVA: A Foundational Language And Vision Alignment Model", arXiv 2112.04482. Of pictures alone it
predicts the codes of hidden patches (mim), of texts alone hidden words (mlm); of pairs it predicts both from both sides
(mmm_image, mmm_text), whether the two sides belong together (itm), and, from what is not masked, whose caption is whose
among all pairs of the global batch (contrastive). The fusion is self-attention over the concatenated states.

Departures: batches mix pairs, pictures alone and texts alone, where the paper takes turns; a part without rows has
count 0, where the released code, in a batch without matching pairs, asks about those that do not match; texts are
padded to the batch's longest, and padding is invisible. Codes are those of our own tokenizer, or DALL-E's as released.

B batch, M pairs, N rows, P patches, T tokens, S states, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from diptych.capabilities.load import folder_of
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.task import Features, GlobalTask, LocalOutput
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, TextPreprocessing
from diptych.data.batches.mixed_pairs import Masks, MixedBatch, MixedPairsProcessor
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.feature_map import BackboneMap
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.image_tokenizer import vq
from diptych.models.masked._flava_codes import Codes, DalleCodes, VqCodes
from diptych.models.masked._flava_encoders import FusionConfig
from diptych.models.masked._flava_losses import mean_parts
from diptych.models.masked._flava_module import FlavaSizes
from diptych.models.masked._flava_predictor import FlavaPredictor, PublicFlavaPredictor, built
from diptych.models.masked._flava_public import read_flava
from diptych.models.masked._flava_rows import asked_places, compared_rows, images_of, planned, texts_of
from diptych.models.masked._flava_terms import Weights, freeze_unused
from diptych.objectives.contrastive import CLIP_SCALE_MAX
from diptych.objectives.gated_contrastive import gated_info_nce

VERBS = ("encode_image", "encode_text", "score_pairs", "fill_text", "fill_image")
READS = ("FlavaForPreTraining",)


def _text(vocabulary: int, context: int, width: int, depth: int, heads: int, eps: float) -> TextConfig:
    """A text encoder in which every token sees every other one."""
    return TextConfig(vocabulary, context, width, depth, heads, 4 * width, causal=False, eps=eps)


@dataclass(frozen=True)
class Config(FlavaSizes):
    """Sizes of the three encoders, and the codes."""

    vision: VisionConfig = field(default_factory=lambda: VisionConfig(224, 16, eps=1e-12))
    text: TextConfig = field(default_factory=lambda: _text(30522, 512, 768, 12, 12, 1e-12))
    fusion: FusionConfig = field(default_factory=FusionConfig)
    width: int = 768
    codes: Codes = field(default_factory=DalleCodes)

    @classmethod
    def base(cls) -> Config:
        """The paper's: ViT-B/16 at 224 pixels, 12 layers of text, 6 of fusion, 8192 codes of DALL-E's encoder."""
        return cls()

    @classmethod
    def tiny(cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8, codes: int = 256) -> Config:
        """Trains on a CPU in minutes; the codebook sees 8 pixels a code."""
        vision, text = VisionConfig(image_size, patch_size, 96, 3, 3, 384), _text(vocab_size, 64, 96, 3, 3, 1e-6)
        seen = image_size // patch_size * 8
        return cls(vision, text, FusionConfig(96, 2, 3, 384, eps=1e-6), 64, VqCodes(vq.Config.tiny(codes), seen))

    def with_vocabulary(self, size: int) -> Config:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))


class FlavaTask(GlobalTask[MixedBatch]):
    """The six terms over mixed batches.

    Attributes:
        weights: of the terms.

    Args:
        codebook: the weights of the trained codebook; None leaves fresh ones, which are only good for tests.
        backbone: whose cells take the place of patches, where the configuration says so.
    """

    processor: MixedPairsProcessor

    def __init__(
        self,
        config: FlavaSizes,
        processor: MixedPairsProcessor,
        weights: Weights | None = None,
        codebook: dict[str, Tensor] | None = None,
        backbone: BackboneMap | None = None,
    ) -> None:
        super().__init__()
        self.config, self.processor, self.weights = config, processor, weights or Weights()
        self.model = built(config, processor, backbone)
        if processor.grid != config.vision.grid:
            raise ConfigError(
                f"the processor hides patches of a grid of {processor.grid} x {processor.grid}, and the image encoder "
                f"has {config.vision.grid} x {config.vision.grid}"
            )
        freeze_unused(self.model, self.weights)
        if codebook is not None:
            assert self.model.codebook is not None, "weights of a codebook that the configuration does not have"
            self.model.codebook.load_state_dict(codebook)

    def features(self, batch: MixedBatch, phase: str = "main") -> LocalOutput:
        """Unit vectors "image" and "text" [B, D], 0 for rows that are no pair; "pair" and "matched" say which are."""
        plan = planned(batch, self.weights)
        places_FM = asked_places(batch, plan, self.weights)
        found = self.model(images_of(batch, plan), texts_of(batch, plan), places_FM)
        parts = mean_parts(self.model, batch, plan, found, places_FM, self.weights)
        return LocalOutput(compared_rows(batch, plan, found), parts)

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        scale, matched_B = self.model.log_scale.exp(), features["matched"]
        loss = gated_info_nce(features["image"], features["text"], scale, features["pair"], matched_B)
        part = Part(loss, float(matched_B.sum()), self.weights.contrastive, Scope.GLOBAL_BATCH)
        return {"contrastive": part}

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps the scale in [1, 100], as the released code does before each forward pass."""
        self.model.log_scale.clamp_(0, CLIP_SCALE_MAX)

    def checkpoint_activations(self, on: bool) -> None:
        self.model.checkpoint_activations(on)

    def summary(self) -> dict[str, float]:
        return {"scale": float(self.model.log_scale.detach().exp())}

    def predictor(self) -> FlavaPredictor:
        return FlavaPredictor(self.config, self.processor, self.model, "flava")


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, FlavaTask]:
    """The task at its smallest, on samples of which some are taken as pictures and texts alone."""
    captions = [text for sample in samples for text in sample.texts]
    tokenizer = Tokenizer.fit(captions, 300, mask=True)
    config = Config(
        VisionConfig(32, 8, 48, 2, 3, 96),
        _text(tokenizer.vocab_size, 64, 48, 2, 3, 1e-6),
        FusionConfig(48, 2, 3, 96, eps=1e-6),
        32,
        VqCodes(vq.Config.tiny(32), 32),
    )
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    masks = Masks(mismatched=0.3, alone=(0.45, 0.1))
    processor = MixedPairsProcessor(settings, tokenizer, config.vision.grid, masks, OtherCaptions(captions))
    return {"mixed": FlavaTask(config, processor)}


def weights_from(reference: str | Path) -> PublicFlavaPredictor:
    """FLAVA's weights of a `transformers` folder or hub id, with preprocessing, tokenizer and codebook.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder asks for what is not done here.
    """
    folder = folder_of(reference)
    public = read_flava(folder)
    module = built(public.config, public.processor)
    public.fill(module, folder)
    return PublicFlavaPredictor(public.config, public.processor, module, folder.name)
