"""Pictures of a source through a model's verbs, in batches, with bad ones recorded.

N pictures, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.predictor import ImageEncoder
from diptych.core.errors import NotANumber
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.evaluation.benchmark import Records

BATCH = 256


def encode_images(model: ImageEncoder, samples: Iterable[Sample], records: Records) -> tuple[Tensor, list[Sample]]:
    """[N, D] and the samples it is of; a picture that cannot be decoded is recorded and left out."""
    rows: list[Tensor] = []
    kept: list[Sample] = []
    for some in batched(samples):
        found = _encode(model, some, records)
        rows += [row for _, row in found]
        kept += [sample for sample, _ in found]
    return (torch.stack(rows) if rows else torch.zeros(0, 0)), kept


def _encode(model: ImageEncoder, samples: Sequence[Sample], records: Records) -> list[tuple[Sample, Tensor]]:
    """A whole batch at once; one by one only where a picture in it is bad."""
    try:
        rows = checked(model.encode_image([sample.image for sample in samples]), model, samples[0].key)
        return list(zip(samples, rows, strict=True))
    except BadSample as bad:
        if len(samples) == 1:
            records.fail(BadSample(samples[0].key, bad.reason, bad.detail))
            return []
    return [pair for sample in samples for pair in _encode(model, [sample], records)]


def checked(output: Tensor, model: Any, where: str) -> Tensor:
    """What a model answered, as it is.

    Raises:
        NotANumber: NaN is among it: every comparison with it is false, so it would rank as the best.
    """
    if output.isnan().any():
        raise NotANumber(f"{model.name} answers NaN (at {where}): its weights have diverged or are damaged")
    return output


def batched(items: Iterable[Any], size: int = BATCH) -> Iterator[list[Any]]:
    """Lists of at most `size` items, in order."""
    held: list[Any] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
