"""What is made of a model's encodings: whether their cosine ranks as the model does, and one vector a class.

P prompts, C classes, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb


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
