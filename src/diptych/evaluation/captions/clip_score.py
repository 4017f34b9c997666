"""CLIPScore: does a caption fit its picture, by the encodings of a judge (Hessel et al. 2021, arXiv 2104.08718).

    CLIP-S = 2.5 * max(cos(picture, caption), 0)
    RefCLIP-S = harmonic mean of CLIP-S and max(0, largest cos(caption, reference))

Every text has "A photo depicts " before it. The numbers are the judge's: those of two judges cannot be compared.

N pictures, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.load import load
from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb, missing
from diptych.core.errors import DataError, MissingVerb
from diptych.evaluation.encoding import batched

PREFIX = "A photo depicts "
WEIGHT = 2.5


def judge_from(reference: str, device: str | torch.device = "cpu") -> Predictor:
    """The model that judges.

    Args:
        reference: what `diptych.load` takes: a run folder, a Hugging Face folder ...
        device: where to put its weights.

    Raises:
        MissingVerb: it does not encode pictures and texts.
        CheckpointError: there is no model.
    """
    return checked_judge(load(reference, device))


def checked_judge(judge: Predictor) -> Predictor:
    """The same model.

    Raises:
        MissingVerb: it does not encode pictures and sentences.
    """
    required = (Verb.ENCODE_IMAGE, Verb.ENCODE_TEXT)
    if lacking := missing(judge.VERBS, required, reads_text=judge.READS_TEXT, sentences=True):
        raise MissingVerb(judge.name, lacking[0], judge.verbs)
    return judge


def clip_scores(
    judge: Any, visuals: Sequence[Any], candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Tensor, Tensor]:
    """CLIP-S [N], 0 to 2.5, and RefCLIP-S [N], 0 to 1.43.

    Args:
        judge: has `encode_image` and `encode_text`, both of unit vectors.
        references: of every picture, one or more each.

    Raises:
        DataError: not one candidate and one or more references a picture.
        BadSample: a picture cannot be read.
        NotANumber: the judge answers NaN.
    """
    if not len(visuals) == len(candidates) == len(references) or not all(references):
        raise DataError(
            f"{len(visuals)} pictures, {len(candidates)} captions and {len(references)} lists of references: give each "
            f"picture one caption and one reference or more"
        )
    image_ND = torch.cat([checked(judge.encode_image(some), judge, "a picture") for some in batched(visuals)]).double()
    text_ND = _texts(judge, candidates)
    clip_N = WEIGHT * (image_ND * text_ND).sum(-1).clamp(min=0)
    return clip_N, _harmonic(clip_N, _nearest(text_ND, _texts(judge, chain.from_iterable(references)), references))


def _texts(judge: Any, texts: Any) -> Tensor:
    prefixed = (PREFIX + text for text in texts)
    return torch.cat([checked(judge.encode_text(some), judge, "a caption") for some in batched(prefixed)]).double()


def _nearest(text_ND: Tensor, said_SD: Tensor, references: Sequence[Sequence[str]]) -> Tensor:
    """[N]: the largest cosine of each caption with a reference of its picture, at least 0."""
    of = torch.split(said_SD, [len(said) for said in references])
    return torch.stack([(said_MD @ text_D).max() for text_D, said_MD in zip(text_ND, of, strict=True)]).clamp(min=0)


def _harmonic(one_N: Tensor, other_N: Tensor) -> Tensor:
    """[N]: 2ab / (a + b); 0 where both are 0."""
    return 2 * one_N * other_N / (one_N + other_N).clamp(min=1e-30)
