"""No NaN passes for an answer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from diptych.core.errors import NotANumber


def checked(output: Tensor, model: Any, where: str) -> Tensor:
    """What a model answered, as it is.

    Raises:
        NotANumber: NaN is among it: every comparison with it is false, so it would rank as the best.
    """
    if output.isnan().any():
        raise NotANumber(f"{model.name} answers NaN (at {where}): its weights have diverged or are damaged")
    return output
