"""FLAVA's terms of scope mean: masked prediction on one side and on both, and matching.

N rows, F fused rows of which the first match, M multimodal states that are asked for, P patches, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.losses import IGNORED, Losses, Part
from diptych.data.batches.mixed_pairs import MixedBatch
from diptych.models.masked._flava_module import Flava, Outputs
from diptych.models.masked._flava_rows import Plan, index
from diptych.models.masked._flava_terms import Weights, counts_of
from diptych.objectives.masked import masked_positions, token_loss


def mean_parts(
    model: Flava, batch: MixedBatch, plan: Plan, found: Outputs, places_FM: Tensor, weights: Weights
) -> Losses:
    """The parts of one pass, each a sum over patches, words or pairs that are asked about.

    Args:
        places_FM: the multimodal states that the pass gave.
    """
    codes_FP, codes_NP = _codes(model, batch, plan, weights)
    sums = _alone(model, found, codes_NP, _words(batch, plan.texts), weights)
    words_FT, places = _words(batch, plan.fused[: plan.matched]), places_FM[: plan.matched]
    if weights.mmm_image:
        labels_FM = F.pad(codes_FP, (2, words_FT.shape[1]), value=IGNORED).gather(1, places)
        sums["mmm_image"] = _fused(model, found, labels_FM, model.mmm_image)
    if weights.mmm_text:
        labels_FM = F.pad(words_FT, (2 + codes_FP.shape[1], 0), value=IGNORED).gather(1, places)
        sums["mmm_text"] = _fused(model, found, labels_FM, model.mmm_text)
    if weights.itm:
        answers_F = (torch.arange(len(places_FM), device=places_FM.device) < plan.matched).long()
        sums["itm"] = token_loss(model.itm(model.fusion.norm_post(found.fused_FMD[:, 0])), answers_F)
    counts, every = counts_of(batch, weights), weights.all()
    return {name: Part(value, counts[name], every[name]) for name, value in sums.items()}


def _alone(model: Flava, found: Outputs, codes_NP: Tensor, words_NT: Tensor, weights: Weights) -> dict[str, Tensor]:
    """Of rows that have one side only."""
    sums = {}
    if weights.mim:
        sums["mim"] = _predicted(found.image_NTD[:, 1:], codes_NP, model.image.norm_post, model.mim)
    if weights.mlm:
        sums["mlm"] = _predicted(found.text_NTD, words_NT, model.text.norm_post, model.mlm)
    return sums


def _fused(model: Flava, found: Outputs, labels_FM: Tensor, head: nn.Module) -> Tensor:
    """Of pairs that match, which stand first among those that are fused."""
    return _predicted(found.fused_FMD[: len(labels_FM)], labels_FM, model.fusion.norm_post, head)


def _predicted(states_NTD: Tensor, labels_NT: Tensor, norm: nn.Module, head: nn.Module) -> Tensor:
    """The summed loss over what is asked about: norm and head run on these places alone."""
    asked_MD, labels_M = masked_positions(states_NTD, labels_NT)
    return token_loss(head(norm(asked_MD)), labels_M)


def _codes(model: Flava, batch: MixedBatch, plan: Plan, weights: Weights) -> tuple[Tensor, Tensor]:
    """Codes of pairs that match and of pictures alone where a patch is hidden, IGNORED elsewhere: one pass for both."""
    matched = plan.fused[: plan.matched] if weights.mmm_image else []
    at = index([*matched, *plan.pictures], batch.pixels_BCHW.device)
    hidden_NP = batch.hidden_BP[at]
    if batch.codes_BP is not None:
        codes_NP = batch.codes_BP[at]
    elif weights.mim or weights.mmm_image:
        codes_NP = model.codes(batch.pixels_BCHW[at])
    else:
        codes_NP = torch.zeros_like(hidden_NP, dtype=torch.int64)
    asked_NP = codes_NP.masked_fill(~hidden_NP, IGNORED)
    return asked_NP[: len(matched)], asked_NP[len(matched) :]


def _words(batch: MixedBatch, rows: list[int]) -> Tensor:
    return batch.labels_BT[index(rows, batch.labels_BT.device)]
