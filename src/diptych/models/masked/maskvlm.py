"""MaskVLM: one side is masked and reconstructed from what is left of it and from all of the other side.

Kwon et al. 2022, "Masked Vision and Language Modeling for Multi-modal Representation Learning", arXiv 2208.02131. An
image and a text encoder see one side each; two cross-modality encoders attend to their own side and to the other one's
encoder. Masked words are predicted from the full picture (mlm), the pixels of hidden patches from the full text (mim:
L1, on hidden patches alone), both in every step; the class tokens of the encoders are contrasted (contrastive), and a
matching head tells pairs from hard in-batch negatives (itm). Losses have weight 1. Masking is on the input: hidden
patches are painted in the mean colour before the image encoder, masked words are other ids before the text encoder.

Confirmed at second hand only, for want of released code: 60 % of the picture in squares of 32 pixels, 30 % of the
words, three blocks in each cross-modality encoder and in the image decoder, whose blocks attend to the text. Not
confirmed, and chosen here: the joint width of 256; how the two class tokens meet in the matching head (concatenated);
words hidden as BERT does (80 % mask, 10 % random, 10 % kept); the mean colour instead of a learned one.

Departures: pre-norm blocks; no momentum encoder or queue; a negative has neither the caption nor the picture of its
anchor, and an anchor that finds none in the batch has its own pair alone; negatives are drawn from the global batch.

B batch, N rows of the global batch, A anchors, T tokens, K hidden patches, P patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int, uniform
from diptych.core.task import AnchoredTask, Features, LocalOutput
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer, text_labels
from diptych.data.words.word_masking import MaskedWords, mask_words
from diptych.layers.bert import rows_at
from diptych.layers.feature_map import BackboneMap
from diptych.layers.pixel_patches import patchify
from diptych.models.masked._maskvlm_module import Config, MaskVlm, States
from diptych.models.masked._maskvlm_options import MaskVlmOptions, Weights, freeze_unused
from diptych.models.masked._maskvlm_predictor import MaskVlmBase
from diptych.objectives.contrastive import CLIP_SCALE_MAX, info_nce
from diptych.objectives.hard_matching import draw_hard, others
from diptych.objectives.masked import masked_positions, token_loss
from diptych.objectives.strips import exactly, unrounded

__all__ = ["Config", "MaskVlm", "MaskVlmOptions", "MaskVlmPredictor", "MaskVlmTask", "Weights"]

VERBS = ("encode_image", "encode_text", "score_pairs", "fill_text", "fill_image")
READS = ()


class _Read(NamedTuple):
    """States of the full pair, and of what is reconstructed; None where nothing is.

    Attributes:
        full: of the whole picture and the whole text.
        covered_BTD: of the picture with hidden patches.
        masked_BTD: of the text with masked words.
        told_BTD, told_lengths_B: of the text that patches are reconstructed from.
    """

    full: States
    covered_BTD: Tensor | None
    masked_BTD: Tensor | None
    told_BTD: Tensor
    told_lengths_B: Tensor


class MaskVlmTask(AnchoredTask[ImageTextBatch]):
    """The four losses; which of them, and what they hide, is in the options."""

    gathered = ("model.fusion",)
    processor: ImageTextProcessor

    def __init__(
        self,
        config: Config,
        processor: ImageTextProcessor,
        options: MaskVlmOptions | None = None,
        backbone: BackboneMap | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.options = options or MaskVlmOptions()
        self.model = MaskVlmPredictor.build(config, processor, backbone)
        self.hidden = self.options.hidden_count(config.vision.image_size, config.vision.patch_size)
        freeze_unused(self.model, self.options.weights)

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        """Unit vectors "image" and "text"; for the matching loss also the states of both sides, padded to the context,
        "lengths", the labels "same" [B, 2] of caption and picture, and the numbers "draws" [B, 2] of the negatives."""
        model, on = self.model, self.options.weights
        image_BCHW = model.normalise(batch.pixels_BCHW)
        if on.itm + on.mlm + on.mim == 0:
            return LocalOutput(self._joint(model(image_BCHW, batch.tokens_BT, batch.lengths_B, first=True)))
        hidden_BP, words = self.hidden_patches(batch), self.masked_words(batch)
        read = self._read(batch, image_BCHW, hidden_BP, words)
        rows = self._joint(read.full)
        if on.itm:
            rows |= self._matching_rows(batch, read.full)
        parts = {**self._words_part(read, batch, words), **self._pixels_part(read, image_BCHW, hidden_BP)}
        return LocalOutput(rows, parts)

    def hidden_patches(self, batch: ImageTextBatch) -> Tensor:
        """bool [B, P], as many in every picture."""
        vision = self.config.vision
        hidden_BP = self.options.hidden_patches(batch.seeds, vision.image_size, vision.patch_size)
        return hidden_BP.to(batch.pixels_BCHW.device)

    def masked_words(self, batch: ImageTextBatch) -> MaskedWords:
        """The captions with words masked, and what they were."""
        tokens = (batch.tokens_BT, batch.lengths_B, self.processor.tokenizer)
        return mask_words(batch.seeds, *tokens, ratio=self.options.text_ratio)

    def _read(self, batch: ImageTextBatch, image_BCHW: Tensor, hidden_BP: Tensor, words: MaskedWords) -> _Read:
        """Each encoder runs once, on all that it has to read stacked."""
        model, on, lengths_B = self.model, self.options.weights, batch.lengths_B
        pictures = [image_BCHW, model.covered(image_BCHW, hidden_BP)] if on.mim else [image_BCHW]
        texts = [batch.tokens_BT, words.tokens_BT] if on.mlm else [batch.tokens_BT]
        lengths = [lengths_B] * len(texts)
        told_lengths_B = lengths_B
        if on.mim and self.config.text_free:
            ends = torch.tensor(self.processor.tokenizer.encode([""], 3)[0], device=lengths_B.device)
            texts.append(F.pad(ends, (0, batch.tokens_BT.shape[1] - len(ends))).expand_as(batch.tokens_BT))
            told_lengths_B = torch.full_like(lengths_B, len(ends))
            lengths.append(told_lengths_B)
        states = model(torch.cat(pictures), torch.cat(texts), torch.cat(lengths))
        of_pictures, of_texts = states.image_BTD.chunk(len(pictures)), states.text_BTD.chunk(len(texts))
        full = States(of_pictures[0], of_texts[0])
        told_BTD = of_texts[-1] if self.config.text_free and on.mim else of_texts[0]
        covered = of_pictures[1] if on.mim else None
        return _Read(full, covered, of_texts[1] if on.mlm else None, told_BTD, told_lengths_B)

    def _joint(self, full: States) -> Features:
        model = self.model
        return Features(image=model.joint_image(full.image_BTD[:, 0]), text=model.joint_text(full.text_BTD[:, 0]))

    def _matching_rows(self, batch: ImageTextBatch, full: States) -> Features:
        """What the matching loss needs of every sample; processes pad differently, so a text is padded to the most."""
        context, device = self.config.text.context, batch.lengths_B.device
        captions_B = text_labels(batch.tokens_BT, batch.lengths_B)
        pictures_B = torch.tensor([hash_to_int("picture", key) for key in batch.keys], device=device)
        return Features(
            image_states=full.image_BTD,
            text_states=F.pad(full.text_BTD, (0, 0, 0, context - full.text_BTD.shape[1])),
            lengths=batch.lengths_B,
            same=torch.stack([captions_B, pictures_B], dim=1),
            draws=uniform(batch.seeds, 2, "negatives").to(device),
        )

    def _words_part(self, read: _Read, batch: ImageTextBatch, words: MaskedWords) -> Losses:
        """Masked words, from the picture that is there in full."""
        if read.masked_BTD is None:
            return {}
        fused_BTD = self.model.fusion.words(read.masked_BTD, batch.lengths_B, read.full.image_BTD)
        rows_MD, labels_M = masked_positions(fused_BTD, words.labels_BT)
        loss = token_loss(self.model.word_logits(rows_MD), labels_M)
        return {"mlm": Part(loss, len(labels_M), self.options.weights.mlm)}

    def _pixels_part(self, read: _Read, image_BCHW: Tensor, hidden_BP: Tensor) -> Losses:
        """Hidden patches, from the text that is there in full: the mean distance of a patch's normalised pixels."""
        if read.covered_BTD is None:
            return {}
        places_BK = hidden_BP.nonzero()[:, 1].view(-1, self.hidden)
        found_BKX = self.model.predicted_pixels(read.covered_BTD, read.told_BTD, read.told_lengths_B, places_BK)
        wanted_BKX = rows_at(patchify(image_BCHW, self.config.vision.patch_size), places_BK)
        loss = (found_BKX - wanted_BKX).abs().mean(-1).sum()  # a difference of bf16 and fp32 is fp32
        return {"mim": Part(loss, places_BK.numel(), self.options.weights.mim)}

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        weight, pairs = self.options.weights.contrastive, len(features["image"])
        if not weight:
            return {}
        loss = info_nce(features["image"], features["text"], self.model.log_scale.exp())
        return {"contrastive": Part(loss * pairs, pairs, weight, Scope.GLOBAL_BATCH)}

    def anchor_losses(self, features: Features, begin: int, end: int, phase: str = "main") -> Losses:
        """Each anchor's own pair; its picture with a hard text; its text with a hard picture."""
        if not self.options.weights.itm:
            return {}
        own_A = torch.arange(begin, end, device=features["image"].device)
        hard_text_A, hard_image_A, found_A = self.hard_negatives(features, begin, end)
        pictures_R, texts_R = torch.cat([own_A, own_A, hard_image_A]), torch.cat([own_A, hard_text_A, own_A])
        image_NTD, lengths_N = features["image_states"], features["lengths"]
        text_NTD = features["text_states"][:, : int(lengths_N.max())]
        logits_R2 = self.model.fusion.matching(image_NTD[pictures_R], text_NTD[texts_R], lengths_N[texts_R])
        matches_R = (torch.arange(len(texts_R), device=own_A.device) < len(own_A)).long()
        exact_R2 = logits_R2.float() if logits_R2.dtype == torch.bfloat16 else logits_R2
        loss_R = F.cross_entropy(exact_R2, matches_R, reduction="none")
        there_R = torch.cat([torch.ones_like(found_A), found_A, found_A])
        pairs = len(lengths_N) + 2 * int((others(features["same"]) > 0).sum())
        return {"itm": Part((loss_R * there_R).sum(), pairs, self.options.weights.itm, Scope.GLOBAL_BATCH)}

    def hard_negatives(self, features: Features, begin: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """A text for each anchor's picture, a picture for each anchor's text, and whether the batch has any for it."""
        image, text, scale = exactly(features["image"], features["text"], self.model.log_scale.detach().exp())
        same, draws = features["same"], features["draws"]
        allowed_AN = (same[begin:end, None] != same).all(-1)
        with unrounded(image):
            texts_A = draw_hard(scale * image[begin:end] @ text.T, allowed_AN, draws[begin:end, 0])
            pictures_A = draw_hard(scale * text[begin:end] @ image.T, allowed_AN, draws[begin:end, 1])
        return texts_A, pictures_A, allowed_AN.any(1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps the contrastive scale in [1, 100], as CLIP does."""
        self.model.log_scale.clamp_(0, CLIP_SCALE_MAX)

    def summary(self) -> dict[str, float]:
        return {"scale": float(self.model.log_scale.detach().exp())}

    def checkpoint_activations(self, on: bool) -> None:
        self.model.checkpoint_activations(on)

    def predictor(self) -> MaskVlmPredictor:
        return MaskVlmPredictor(self.config, self.processor, self.model, "maskvlm")


class MaskVlmPredictor(MaskVlmBase):
    """Encodes each side, scores pairs by the matching head, fills in words and patches."""

    VERBS = VERBS


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, MaskVlmTask]:
    """Its task with all four losses at its smallest; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300, mask=True)
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    config = Config.tiny(tokenizer.vocab_size, image_size=32, width=64, depth=2)
    return {"masked": MaskVlmTask(config, ImageTextProcessor(settings, tokenizer), MaskVlmOptions(image_block=8))}
