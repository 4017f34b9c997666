"""BLIP-2, first stage: a Q-Former between a frozen vision tower and text, taught by three objectives in one pass.

Li et al. 2023, "BLIP-2", arXiv 2301.12597, section 3.1. Contrast: a text is as close to a picture as to the closest of
its queries. Matching: queries that are told the text say whether it belongs to the picture, against hard negatives of
the global batch. Writing: the text, word by word, told the queries. Queries and text see each other, or not, as each
objective asks (layers/qformer.py). The parts weigh the same.

Departures from the released code: hard negatives are drawn over the global batch and never from the same caption or
picture; a text is drawn against all pictures of the batch, whatever it is cut into.

B pairs, S features of a picture, C their width, Q queries, T tokens, D width, E joint width, A anchors, R rows, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.losses import IGNORED, Losses, Part, Scope
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
from diptych.layers.backbone_folder import tiny_vision_backbone
from diptych.layers.qformer import QFormerConfig
from diptych.models.pretrained_backbone._blip2_module import TEMPERATURE, Blip2, Config, check_fit
from diptych.models.pretrained_backbone._blip2_predictor import Blip2Predictor
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.objectives.autoregressive import next_token_labels, next_token_loss
from diptych.objectives.best_query import best_query, best_query_contrast
from diptych.objectives.hard_matching import draw_hard, others

__all__ = ["TEMPERATURE", "Blip2", "Blip2Predictor", "Blip2Task", "Config"]

VERBS = ("score", "score_pairs", "generate_text", "text_likelihood")
READS = ()


class Blip2Task(AnchoredTask[ImageTextBatch]):
    """The three objectives; the tower stays as it is."""

    gathered = ("model.qformer", "model.match_head")
    processor: ImageTextProcessor

    def __init__(self, config: Config, processor: ImageTextProcessor, tower: PatchFeatures) -> None:
        super().__init__()
        check_fit(config, processor, tower)
        self.config = config
        self.processor = processor
        self.model = Blip2(config, tower)

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        """Unit vectors "image" [B, Q, E] and "text", what matching needs of every sample, and the loss of writing."""
        model = self.model
        image_BSC = model.see(batch.pixels_BCHW)
        context, pad = self.processor.config.text.max_length, self.processor.tokenizer.pad_id
        rows = Features(
            image=model.image_vectors(image_BSC),
            text=model.text_vectors(batch.tokens_BT, batch.lengths_B),
            image_states=image_BSC,
            tokens=F.pad(batch.tokens_BT, (0, context - batch.tokens_BT.shape[1]), value=pad),
            lengths=batch.lengths_B,
            same=_labels(batch),
            draws=uniform(batch.seeds, 2, "negatives").to(batch.lengths_B.device),
        )
        labels_BT = next_token_labels(batch.tokens_BT, batch.lengths_B)
        loss = next_token_loss(model.written(image_BSC, batch.tokens_BT), labels_BT, model.logits).cross_entropy
        return LocalOutput(rows, {"writing": Part(loss, int((labels_BT != IGNORED).sum()))})

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        close_IJ = best_query(features["image"], features["text"])
        loss, pairs = best_query_contrast(close_IJ, self.model.temperature, self.config.smoothing), len(close_IJ)
        return {"contrast": Part(loss * pairs, pairs, scope=Scope.GLOBAL_BATCH)}

    def anchor_losses(self, features: Features, begin: int, end: int, phase: str = "main") -> Losses:
        """Each anchor's own pair; its picture with a hard text; its text with a hard picture."""
        texts_A, pictures_A, found_A = self.hard_negatives(features, begin, end)
        own_A = torch.arange(begin, end, device=texts_A.device)
        pictures_R, texts_R = torch.cat([own_A, own_A, pictures_A]), torch.cat([own_A, texts_A, own_A])
        lengths_N = features["lengths"]
        tokens_NT = features["tokens"][:, : int(lengths_N.max())]
        logits_R2 = self.model.matching(features["image_states"][pictures_R], tokens_NT[texts_R], lengths_N[texts_R])
        exact_R2 = logits_R2.float() if logits_R2.dtype == torch.bfloat16 else logits_R2
        matches_R = (torch.arange(len(texts_R), device=own_A.device) < len(own_A)).long()
        loss_R = F.cross_entropy(exact_R2, matches_R, reduction="none")
        there_R = torch.cat([torch.ones_like(found_A), found_A, found_A])
        pairs = len(lengths_N) + 2 * int((others(features["same"]) > 0).sum())
        return {"matching": Part((loss_R * there_R).sum(), pairs, scope=Scope.GLOBAL_BATCH)}

    @torch.no_grad()
    def hard_negatives(self, features: Features, begin: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """A text for each anchor's picture, a picture for each anchor's text, and whether the batch has any for it."""
        image_IQE, text_JE, temperature = (
            one.float() for one in (features["image"], features["text"], self.model.temperature)
        )
        same, draws = features["same"], features["draws"]
        allowed_AN = (same[begin:end, None] != same).all(-1)
        texts_A = draw_hard(best_query(image_IQE[begin:end], text_JE) / temperature, allowed_AN, draws[begin:end, 0])
        of_texts_AN = best_query(image_IQE, text_JE[begin:end]).T
        pictures_A = draw_hard(of_texts_AN / temperature, allowed_AN, draws[begin:end, 1])
        return texts_A, pictures_A, allowed_AN.any(1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps the temperature a divisor: at least a hundredth, as CLIP's scale is at most 100."""
        self.model.temperature.clamp_(0.01, 1.0)

    def summary(self) -> dict[str, float]:
        return {"temperature": float(self.model.temperature.detach())}

    def predictor(self) -> Blip2Predictor:
        return Blip2Predictor(self.config, self.processor, self.model, "blip2")


def _labels(batch: ImageTextBatch) -> Tensor:
    """Of caption and picture [B, 2]: what is the same is no negative."""
    pictures_B = torch.tensor([hash_to_int("picture", key) for key in batch.keys], device=batch.lengths_B.device)
    return torch.stack([text_labels(batch.tokens_BT, batch.lengths_B), pictures_B], dim=1)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, Blip2Task]:
    """The first stage at its smallest, on a random tower; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    image = ImagePreprocessing(32, mean=(0.5,) * 3, std=(0.5,) * 3, views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(128)), tokenizer)
    sizes = QFormerConfig(4, 64, 2, 2, 128, 32, 2, tokenizer.vocab_size + 1, 128)
    tower = PatchFeatures(tiny_vision_backbone(32, 32), False, image.mean, image.std)
    return {"first_stage": Blip2Task(Config(sizes, 32, layer=-1, special=1), processor, tower)}
