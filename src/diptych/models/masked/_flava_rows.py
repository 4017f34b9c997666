"""Which rows of a mixed batch go where, so that the passes are the same ones whatever the batch is made of.

B batch, N rows, M rows that are compared, P patches, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.core.losses import IGNORED
from diptych.core.task import Features
from diptych.data.batches.mixed_pairs import PAIRS, Kind, MixedBatch
from diptych.models.masked._flava_module import Images, Outputs, Texts
from diptych.models.masked._flava_terms import Weights


class Plan(NamedTuple):
    """Rows of a batch, by their use.

    Attributes:
        fused: masked pairs for the multimodal encoder, those that match first.
        matched: how many of these match.
        pictures, texts: masked rows that are alone.
        compared: pairs with nothing hidden, for the contrastive term.
    """

    fused: list[int]
    matched: int
    pictures: list[int]
    texts: list[int]
    compared: list[int]


def planned(batch: MixedBatch, weights: Weights) -> Plan:
    """What the terms with a weight need of a batch; every list may be empty."""
    pairs, matching = batch.places(*PAIRS), len(batch.places(Kind.MATCHED))
    return Plan(
        pairs if weights.fuses else [],
        matching if weights.fuses else 0,
        batch.places(Kind.PICTURE) if weights.mim else [],
        batch.places(Kind.TEXT) if weights.mlm else [],
        pairs if weights.contrastive else [],
    )


def images_of(batch: MixedBatch, plan: Plan) -> Images:
    """Masked pairs, masked pictures, then pairs with nothing hidden."""
    device = batch.pixels_BCHW.device
    masked, shown = index([*plan.fused, *plan.pictures], device), index(plan.compared, device)
    hidden_NP = torch.cat([batch.hidden_BP[masked], torch.zeros_like(batch.hidden_BP[shown])])
    return Images(batch.pixels_BCHW[torch.cat([masked, shown])], hidden_NP, len(masked))


def texts_of(batch: MixedBatch, plan: Plan) -> Texts:
    """Masked pairs, masked texts, then pairs with nothing hidden."""
    device = batch.tokens_BT.device
    masked, shown = index([*plan.fused, *plan.texts], device), index(plan.compared, device)
    tokens_NT = torch.cat([batch.masked_BT[masked], batch.tokens_BT[shown]])
    return Texts(tokens_NT, batch.lengths_B[torch.cat([masked, shown])], len(masked))


def asked_places(batch: MixedBatch, plan: Plan, weights: Weights) -> Tensor:
    """Which multimodal states [F, M] the heads read of the fused rows: the last block computes no others.

    CLS, then the hidden patches and the words that are asked about, of pairs that match; rows are filled up with CLS.
    """
    device, pairs, sides = batch.hidden_BP.device, len(plan.fused), (bool(weights.mmm_image), bool(weights.mmm_text))
    at = index(plan.fused, device)
    cls_F1 = torch.ones(pairs, 1, dtype=torch.bool, device=device)
    matched_F1 = torch.arange(pairs, device=device)[:, None] < plan.matched
    hidden_FP = batch.hidden_BP[at] & matched_F1 & sides[0]
    words_FT = (batch.labels_BT[at] != IGNORED) & matched_F1 & sides[1]
    asked_FS = torch.cat([cls_F1, torch.zeros_like(cls_F1), hidden_FP, words_FT], dim=1)
    rows = (batch.asked[row] for row in plan.fused[: plan.matched])
    most = 1 + max((patches * sides[0] + words * sides[1] for patches, words in rows), default=0)
    places_FM = (~asked_FS).to(torch.int8).argsort(dim=1, stable=True)[:, :most]
    return places_FM * asked_FS.gather(1, places_FM)


def compared_rows(batch: MixedBatch, plan: Plan, found: Outputs) -> Features:
    """Unit vectors "image" and "text" [B, D], 0 for rows that are not compared, and bool "pair" and "matched" [B]."""
    device = found.image_MD.device
    pair = index(plan.compared, device)
    matched = index(batch.places(Kind.MATCHED) if plan.compared else [], device)
    nothing_B = torch.zeros(batch.num_samples, dtype=torch.bool, device=device)
    return Features(
        image=_placed(found.image_MD, pair, batch.num_samples),
        text=_placed(found.text_MD, pair, batch.num_samples),
        pair=nothing_B.index_fill(0, pair, True),
        matched=nothing_B.index_fill(0, matched, True),
    )


def index(rows: Sequence[int], device: torch.device) -> Tensor:
    """Rows as an int64 index."""
    return torch.tensor(rows, dtype=torch.int64, device=device)


def _placed(rows_MD: Tensor, at_M: Tensor, rows: int) -> Tensor:
    return rows_MD.new_zeros(rows, rows_MD.shape[1]).index_copy(0, at_M, rows_MD)
