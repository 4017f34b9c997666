"""Encodes the pictures of a source by a model's verbs, in batches; bad pictures are recorded.

N pictures, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import ImageEncoder, Predictor
from diptych.capabilities.verbs import Verb, reachable
from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.evaluation.benchmark import Records

BATCH = 256


def scores_by_pairs(model: Predictor) -> bool:
    """Whether its `score` asks the model about every pair: a pass a pair, and so a smaller pool."""
    rule = reachable(model.VERBS)[Verb.SCORE].rule
    return rule is not None and rule.needs == (Verb.SCORE_PAIRS,)


def encode_images(model: ImageEncoder, samples: Iterable[Sample], records: Records) -> tuple[Tensor, list[Sample]]:
    """[N, D] and the samples it is of; a picture that cannot be decoded is recorded and left out."""
    return rows_of(model, model.encode_image, samples, records)


def rows_of(
    model: Any, run: Callable[[list[Image]], Tensor], samples: Iterable[Sample], records: Records, size: int = BATCH
) -> tuple[Tensor, list[Sample]]:
    """What `run` makes of the pictures, a row each, and the samples that the rows are of.

    Args:
        run: at most `size` pictures -> as many rows; raises BadSample where a picture cannot be decoded.

    Raises:
        DataError: not a single picture could be read.
    """
    rows: list[Tensor] = []
    kept: list[Sample] = []
    for some in batched(samples, size):
        found = _rows(model, run, some, records)
        rows += [row for _, row in found]
        kept += [sample for sample, _ in found]
    if not rows:
        raise DataError(f"not a single picture for {model.name} could be read: {reasons(records)}")
    return torch.stack(rows), kept


def reasons(records: Records) -> str:
    """Why samples have no outcome, with how many there are of each."""
    counts = Counter(record.status for record in records.done.values() if record.status != "ok")
    return ", ".join(f"{count} with {reason}" for reason, count in counts.items()) or "the data are empty"


def _rows(
    model: Any, run: Callable[[list[Image]], Tensor], samples: Sequence[Sample], records: Records
) -> list[tuple[Sample, Tensor]]:
    """A whole batch at once; one by one only where a picture in it is bad."""
    try:
        rows = checked(run([sample.image for sample in samples]), model, samples[0].key)
        return list(zip(samples, rows, strict=True))
    except BadSample as bad:
        if len(samples) == 1:
            records.fail(BadSample(samples[0].key, bad.reason, bad.detail))
            return []
    return [pair for sample in samples for pair in _rows(model, run, [sample], records)]


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
