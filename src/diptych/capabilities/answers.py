"""What is made of a model's answers wherever it is asked: a look for NaN, and one vector a class.

P prompts, C classes, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import NotANumber


def checked(output: Tensor, model: Any, where: str) -> Tensor:
    """What a model answered, as it is.

    Raises:
        NotANumber: NaN is among it: every comparison with it is false, so it would rank as the best.
    """
    if output.isnan().any():
        raise NotANumber(f"{model.name} answers NaN (at {where}): its weights have diverged or are damaged")
    return output


def has_both_encodings(model: Predictor) -> bool:
    """Whether the model encodes pictures and texts, each on its own."""
    return {Verb.ENCODE_IMAGE, Verb.ENCODE_TEXT} <= set(model.VERBS)


def scores_by_vectors(model: Predictor) -> bool:
    """Whether products of its encodings rank pictures and texts as the model does."""
    return has_both_encodings(model) and model.ranks_by_cosine


def class_vectors(model: Any, names: Sequence[str], prompts: Sequence[str]) -> Tensor:
    """[C, D]: the normalised mean of each class's normalised prompt embeddings (CLIP's prompt ensembles)."""
    vectors = [model.encode_text([prompt.format(name) for prompt in prompts]).mean(0) for name in names]
    return checked(F.normalize(torch.stack(vectors), dim=-1), model, "the class names")
