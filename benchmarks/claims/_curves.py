"""What a training curve comes to: the loss and the gradient norm that a run logged."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

CURVES = ("training/loss_end", "training/grad_norm_end", "training/grad_norm_largest")


def curve_values(lines: Sequence[Mapping[str, Any]], stage: str = "train") -> dict[str, float]:
    """Of the logged lines of a stage: means over the last quarter, and the largest gradient norm after the first.

    Args:
        lines: of `metrics.jsonl`; gradient norms are those before clipping.
    """
    logged = [line for line in lines if line["stage"] == stage]
    first, last = len(logged) // 4, logged[-max(len(logged) // 4, 1) :]
    return {
        "training/loss_end": statistics.fmean(line["loss"] for line in last),
        "training/grad_norm_end": statistics.fmean(line["grad_norm"] for line in last),
        "training/grad_norm_largest": max(line["grad_norm"] for line in logged[first:]),
    }
