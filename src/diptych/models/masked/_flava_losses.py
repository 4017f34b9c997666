"""FLAVA's terms of scope mean: masked prediction on one side and on both, and matching.

N rows, F fused rows of which the first match, P patches, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.core.losses import IGNORED, Losses, Part
from diptych.data.mixed_pairs import MixedBatch
from diptych.models.masked._flava_module import Flava, Outputs, patches_of, words_of
from diptych.models.masked._flava_rows import Plan, index
from diptych.models.masked._flava_terms import Weights, counts_of
from diptych.objectives.masked import masked_positions, token_loss


def mean_parts(model: Flava, batch: MixedBatch, plan: Plan, found: Outputs, weights: Weights) -> Losses:
    """The parts of one pass, each a sum over patches, words or pairs that are asked about."""
    asked_FP, asked_NP = _codes(model, batch, plan, weights)
    alone = _alone(model, found, len(plan.fused), asked_NP, _words(batch, plan.texts), weights)
    matched = _words(batch, plan.fused[: plan.matched])
    fused = _fused(model, found.fused_FSD, plan.matched, asked_FP, matched, weights)
    counts, every = counts_of(batch, weights), weights.all()
    return {name: Part(value, counts[name], every[name]) for name, value in {**alone, **fused}.items()}


def _alone(
    model: Flava, found: Outputs, pairs: int, codes_NP: Tensor, words_NT: Tensor, weights: Weights
) -> dict[str, Tensor]:
    """Of rows that have one side only, which stand behind the pairs."""
    sums = {}
    if weights.mim:
        sums["mim"] = _predicted(found.image_NTD[pairs:, 1:], codes_NP, model.image.norm_post, model.mim)
    if weights.mlm:
        sums["mlm"] = _predicted(found.text_NTD[pairs:], words_NT, model.text.norm_post, model.mlm)
    return sums


def _fused(
    model: Flava, states_FSD: Tensor, matched: int, codes_MP: Tensor, words_MT: Tensor, weights: Weights
) -> dict[str, Tensor]:
    """Of pairs: what is hidden in those that match, and which do."""
    patches, norm, sums = model.config.vision.grid**2, model.fusion.norm_post, {}
    states_MSD = states_FSD[:matched]
    if weights.mmm_image:
        sums["mmm_image"] = _predicted(patches_of(states_MSD, patches), codes_MP, norm, model.mmm_image)
    if weights.mmm_text:
        sums["mmm_text"] = _predicted(words_of(states_MSD, patches), words_MT, norm, model.mmm_text)
    if weights.itm:
        answers_F = (torch.arange(len(states_FSD), device=states_FSD.device) < matched).long()
        sums["itm"] = token_loss(model.itm(norm(states_FSD[:, 0])), answers_F)
    return sums


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
