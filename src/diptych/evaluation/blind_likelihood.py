"""How likely a text is with nothing to look at, and scores corrected for it.

log p(text | picture) prefers what is likely to be said of any picture: fluent texts, common objects. The corrected
score log p(text | picture) - alpha log p(text) is, at alpha = 1, the pointwise mutual information of the two. Lin et
al. 2023, arXiv 2306.01879 (VisualGPTScore). Both terms are per token, as the score is; p(text) is the model's own, of
no picture. The corrected numbers stand beside the plain ones, with `_blind_corrected` in their names.

N pictures, M texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb, reachable
from diptych.core.errors import ConfigError
from diptych.evaluation.encoding import BATCH, batched

ALPHA = 1.0
SUFFIX = "_blind_corrected"


def scores_by_text_likelihood(model: Predictor) -> bool:
    """Whether the model's score is the likelihood of the text, for which there is a correction."""
    had = reachable(model.VERBS)
    by_pairs, by_text = had.get(Verb.SCORE), had.get(Verb.SCORE_PAIRS)
    if by_pairs is None or by_text is None or by_pairs.rule is None or by_text.rule is None:
        return False
    return by_pairs.rule.needs == (Verb.SCORE_PAIRS,) and by_text.rule.needs == (Verb.TEXT_LIKELIHOOD,)


def blind_scores(model: Any, texts: Sequence[str]) -> Tensor:
    """[M] log p(text) per token without a picture, float64.

    Args:
        model: has `text_likelihood`.

    Raises:
        NotANumber: the model answers NaN.
    """
    found = [model.text_likelihood([None] * len(some), [""] * len(some), some).mean() for some in batched(texts, BATCH)]
    return checked(torch.cat(found), model, "the texts without a picture") if found else torch.zeros(0).double()


def corrected(scores_NM: Tensor, blind_M: Tensor, alpha: float) -> Tensor:
    """[N, M] the scores less alpha times what each text has without a picture."""
    return scores_NM.double() - alpha * blind_M.to(scores_NM.device)


def check_alpha(alpha: float, benchmark: str) -> None:
    """Raises a ConfigError where a weight of the correction is negative."""
    if alpha < 0:
        raise ConfigError(f"{benchmark}.blind_alpha {alpha} must be 0 (no correction) or more")


def correction_note(alpha: float) -> str:
    """What a report says of the corrected numbers."""
    return f"{SUFFIX.lstrip('_')}: log p(text | picture) less {alpha:g} times log p(text) of no picture, per token"
