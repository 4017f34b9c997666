"""The visuals of a caller as inputs of the model: pictures with their regions, or prepared region features.

N pairs, R regions, F region width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import DataError
from diptych.data.batches.region_text import RegionTextProcessor
from diptych.models.early_fusion._visualbert_module import Seen, VisualBert


def seen_of(
    model: VisualBert, processor: RegionTextProcessor, visuals: Sequence[Any] | Tensor, chosen: Sequence[int]
) -> Seen:
    """What is seen of some of the visuals; one object that is named several times is looked at once.

    Args:
        visuals: pictures, or region features, a float tensor [N, R, F].
        chosen: which of them, in order; one may come again.

    Raises:
        DataError: a picture or its regions cannot be read, the features are of another shape, or the model has no
            extractor and is given pictures.
    """
    device = model.pooler.weight.device
    if isinstance(visuals, Tensor):
        return _given(model, visuals[torch.tensor(list(chosen), dtype=torch.int64)])
    first_of = {id(visuals[index]): index for index in chosen}
    seen = model.look(processor.pictures([visuals[index] for index in first_of.values()]).to(device))
    row_of = {key: row for row, key in enumerate(first_of)}
    rows_N = torch.tensor([row_of[id(visuals[index])] for index in chosen], device=device)
    boxes_NR4 = None if seen.boxes_BR4 is None else seen.boxes_BR4[rows_N]
    return Seen(seen.features_BRF[rows_N], seen.counts_B[rows_N], boxes_NR4)


def _given(model: VisualBert, features_NRF: Tensor) -> Seen:
    width, weight = model.config.region_width, model.pooler.weight
    if features_NRF.ndim != 3 or features_NRF.shape[-1] != width or not features_NRF.is_floating_point():
        raise DataError(
            f"region features are a float tensor [N, regions, {width}]: got {features_NRF.dtype} "
            f"{list(features_NRF.shape)}"
        )
    counts_N = torch.full((len(features_NRF),), features_NRF.shape[1], device=weight.device)
    return Seen(features_NRF.to(weight.device, weight.dtype), counts_N)
