"""Every picture of a pool scored with every caption of it.

N pictures, M captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.capabilities.encodings import has_both_encodings, scores_by_vectors
from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.data.derived.subset import Subset
from diptych.evaluation.benchmark import Records
from diptych.evaluation.encoding import BATCH, encode_images, rows_of, scores_by_pairs
from diptych.evaluation.ranking.pair_rows import pair_rows


@dataclass(frozen=True)
class Candidates:
    """What was scored with what.

    Attributes:
        owner_M: the position of the picture that each caption is of.
    """

    scores_NM: NDArray[np.float32]
    samples: list[Sample]
    texts: list[str]
    owner_M: NDArray[np.int64]

    def right(self) -> NDArray[np.bool_]:
        """[N, M]: which caption is which picture's."""
        own: NDArray[np.bool_] = self.owner_M[None] == np.arange(len(self.samples))[:, None]
        return own


def seeded_pool(source: Source, size: int, seed: int) -> Source:
    """The source, or `size` of its samples chosen by a hash of their keys."""
    if len(source) <= size:
        return source
    keys = source.keys()
    chosen = sorted(range(len(keys)), key=lambda index: hash_to_int("pool", seed, keys[index]))[:size]
    return Subset(source, sorted(chosen), name=source.name)


def score_everything(model: Predictor, source: Source, records: Records) -> Candidates:
    """Scores every picture with every caption; a sample without a caption, or with a bad picture, is recorded.

    Raises:
        DataError: not a single picture could be read.
    """
    samples = [sample for sample in records.samples(source) if records.has_caption(sample)]
    if scores_by_vectors(model):
        image_ND, kept = encode_images(model, samples, records)
        texts, owner_M = _captions(kept)
        scores_NM = image_ND @ checked(model.encode_text(texts), model, "the captions").T
        return Candidates(_as_float32(scores_NM), kept, texts, owner_M)
    everything, _ = _captions(samples)
    if scores_by_pairs(model):
        rows_KM, kept = _pairwise(model, samples, everything, records)
    else:
        # Who scores by encodings of both sides encodes the captions once a call; any other is given a row of them.
        size = BATCH if has_both_encodings(model) else 1
        found, kept = rows_of(model, lambda images: model.score(images, everything), samples, records, size)
        rows_KM = _as_float32(found)
    texts, owner_M = _captions(kept)
    left = {sample.key for sample in kept}
    of_kept = np.array([sample.key in left for sample in samples for text in sample.texts if text.strip()])
    return Candidates(rows_KM[:, of_kept], kept, texts, owner_M)


def _pairwise(
    model: Predictor, samples: Sequence[Sample], texts: Sequence[str], records: Records
) -> tuple[NDArray[np.float32], list[Sample]]:
    rows = pair_rows(model, samples, texts, [np.arange(len(texts))] * len(samples), records)
    if not rows:
        raise DataError(f"not a single picture for {model.name} could be read")
    return np.stack(list(rows.values())), [samples[index] for index in rows]


def _captions(samples: Sequence[Sample]) -> tuple[list[str], NDArray[np.int64]]:
    rows = [(text, index) for index, sample in enumerate(samples) for text in sample.texts if text.strip()]
    return [text for text, _ in rows], np.array([index for _, index in rows], np.int64)


def _as_float32(scores_NM: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = scores_NM.to(torch.float32).cpu().numpy()
    return array
