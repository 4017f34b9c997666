"""What a score may be used for: to compare the texts of one picture, the pictures of one text, or both.

N pictures, M texts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable
from diptych.core.errors import NotComparable


def supports(model: Predictor, needed: Comparable) -> bool:
    """Whether the model's score may be compared over what is needed."""
    return model.comparable_over in (Comparable.BOTH, needed)


def refusal(model: Predictor, what: str) -> str:
    """The sentence that says why something cannot be asked of the model's score."""
    return f"the score of {model.name} is comparable over {model.comparable_over} only: {what} needs the other"


def require(model: Predictor, needed: Comparable, what: str, instead: str = "") -> None:
    """Looks whether a comparison makes sense.

    Args:
        what: needs the comparison, for the message.
        instead: what the user can do, for the message.

    Raises:
        NotComparable: the score does not support it.
    """
    if not supports(model, needed):
        raise NotComparable(refusal(model, what) + (f"; {instead}" if instead else ""))


def in_single(scores_NM: Tensor, model: Predictor) -> Tensor:
    """The scores in float32; less each picture's highest where only the texts of one picture are compared.

    The log-likelihood of a picture is a sum over thousands of numbers, and what tells its texts apart is a small part
    of it, which float32 would round away.
    """
    if model.comparable_over is Comparable.TEXTS and scores_NM.shape[-1]:
        scores_NM = scores_NM - scores_NM.amax(-1, keepdim=True)
    return scores_NM.to(torch.float32)
