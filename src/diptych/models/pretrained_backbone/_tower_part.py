"""A vision tower whose configuration and weights are part of something larger's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.errors import CheckpointError
from diptych.layers.backbone_folder import model_of, one_side, quiet, transformers_for
from diptych.models._weight_tables import load_into


def tower_of(plain: Mapping[str, Any], weights: Mapping[str, Tensor], where: Path) -> nn.Module:
    """The tower on its weights.

    Raises:
        CheckpointError: one is missing or left over.
    """
    transformers = transformers_for(f"the vision tower of {where}")
    kind = str(plain.get("model_type", ""))
    config = transformers.AutoConfig.for_model(kind, **{k: v for k, v in plain.items() if k != "model_type"})
    with quiet(transformers.utils.logging), torch.no_grad():
        backbone = one_side(model_of(config), "vision")
    expected = backbone.state_dict()
    state = {name: one for name, one in weights.items() if not name.endswith("position_ids")}
    if missing := sorted(expected.keys() - state.keys()):
        raise CheckpointError(f"{where} lacks the weight {missing[0]} of its vision tower")
    if more := sorted(state.keys() - expected.keys()):
        raise CheckpointError(f"{where} has weights that its vision tower has not: {more[0]}")
    load_into(backbone, state, where)
    return backbone
