"""Image-text retrieval, both ways.

Recall at k as the field counts it: a picture finds its text when any of its captions is among the first k; every
caption is a query of its own for its picture. Strict (a tie counts against) beside the expectation under random
tie-breaking and the tie rate. A pool of pictures beyond `pool` is cut down to a fixed, seeded one, the same for every
model, and its size is printed with the numbers.

N pictures, M captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable
from diptych.core.errors import NotComparable
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.subset import Subset
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import (
    BATCH,
    checked,
    encode_images,
    has_both_encodings,
    rows_of,
    scores_by_vectors,
)
from diptych.evaluation.metrics.ranking import Ranking, chance_at, ranking
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("score",)
SENTENCES = True
DATA = "scenes?min_objects=2"

_EXAMPLES = 8


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        ks: the k of R@k.
        pool: the most pictures to rank among.
        directions: which ways; a score that supports only one of them is refused the other.
    """

    ks: tuple[int, ...] = (1, 5, 10)
    pool: int = 5000
    directions: tuple[str, ...] = ("image_to_text", "text_to_image")


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Ranks every caption for every picture and the other way round.

    Raises:
        NotComparable: a direction that the model's score does not support.
    """
    _require_comparable(model, settings.directions)
    pool = seeded_pool(source, settings.pool, records.seed)
    scores_NM, samples, texts, owner_M = score_everything(model, pool, records)
    right_NM = owner_M[None] == np.arange(len(samples))[:, None]
    metrics: dict[str, Metric] = {"pool": Metric(float(len(samples)), n=len(samples), unit="number")}
    gallery: list[dict[str, Any]] = []
    if "image_to_text" in settings.directions:
        found = ranking(scores_NM, right_NM)
        keys = [sample.key for sample in samples]
        metrics |= _metrics("image_to_text", found, right_NM, keys, keys, settings.ks, records)
        gallery += _image_examples(found, scores_NM, samples, texts)
    if "text_to_image" in settings.directions:
        found = ranking(scores_NM.T, right_NM.T)
        units = [samples[owner].key for owner in owner_M]
        keys = _caption_keys(units)
        metrics |= _metrics("text_to_image", found, right_NM.T, keys, units, settings.ks, records)
        gallery += _text_examples(found, scores_NM, samples, texts, owner_M)
    return Outcome(metrics, {"gallery": gallery, "pool": {"pictures": len(samples), "captions": len(texts)}})


def seeded_pool(source: Source, size: int, seed: int) -> Source:
    """The source, or `size` of its samples chosen by a hash of their keys."""
    if len(source) <= size:
        return source
    keys = source.keys()
    chosen = sorted(range(len(keys)), key=lambda index: hash_to_int("pool", seed, keys[index]))[:size]
    return Subset(source, sorted(chosen), name=source.name)


def score_everything(
    model: Predictor, source: Source, records: Records
) -> tuple[NDArray[np.float32], list[Sample], list[str], NDArray[np.int64]]:
    """Scores [N, M] of every picture with every caption, the samples, the captions and whose they are."""
    samples = [sample for sample in records.samples(source) if _usable(sample, records)]
    if scores_by_vectors(model):
        image_ND, samples = encode_images(model, samples, records)
        texts, owner_M = _captions(samples)
        scores_NM = image_ND @ checked(model.encode_text(texts), model, "the captions").T
    else:
        everything, _ = _captions(samples)
        # Who scores by encodings of both sides encodes the captions once a call; who reads pairs holds one row of them.
        size = BATCH if has_both_encodings(model) else 1
        rows, kept = rows_of(model, lambda images: model.score(images, everything), samples, records, size)
        texts, owner_M = _captions(kept)
        left = {sample.key for sample in kept}
        of_kept = [sample.key in left for sample in samples for text in sample.texts if text.strip()]
        scores_NM, samples = rows[:, torch.tensor(of_kept)], kept
    return _as_float32(scores_NM), samples, texts, owner_M


def _usable(sample: Sample, records: Records) -> bool:
    if any(text.strip() for text in sample.texts):
        return True
    records.fail(BadSample(sample.key, "no caption"))
    return False


def _captions(samples: Sequence[Sample]) -> tuple[list[str], NDArray[np.int64]]:
    rows = [(text, index) for index, sample in enumerate(samples) for text in sample.texts if text.strip()]
    return [text for text, _ in rows], np.array([index for _, index in rows], np.int64)


def _as_float32(scores_NM: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = scores_NM.float().cpu().numpy()
    return array


def _require_comparable(model: Predictor, directions: Sequence[str]) -> None:
    over = model.comparable_over
    refused = {Comparable.TEXTS: "text_to_image", Comparable.VISUALS: "image_to_text"}.get(over)
    if refused in directions:
        raise NotComparable(
            f"the score of {model.name} is comparable over {over} only: {refused} retrieval needs the other; "
            f"set the benchmark's directions to the one that it supports"
        )


def _caption_keys(units: Sequence[str]) -> list[str]:
    """ "key#0", "key#1" ... for the captions of each picture."""
    seen: dict[str, int] = {}
    keys = []
    for unit in units:
        keys.append(f"{unit}#{seen.get(unit, 0)}")
        seen[unit] = seen.get(unit, 0) + 1
    return keys


def _metrics(
    way: str, found: Ranking, right: NDArray[np.bool_], keys: Sequence[str], units: Sequence[str],
    ks: Sequence[int], records: Records,
) -> dict[str, Metric]:  # fmt: skip
    """Recalls with intervals and chance; a record for each query."""
    rank = found.rank()
    hits = {f"{way}_r{k}": found.strict(k).tolist() for k in ks}
    records.add(
        *(
            SampleRecord(key, output={"rank": int(rank[i])}, values={name: of[i] for name, of in hits.items()})
            for i, key in enumerate(keys if way == "text_to_image" else [f"{key}#" for key in keys])
        )
    )
    candidates, per_query = right.shape[1], right.sum(1)
    metrics = {}
    for k in ks:
        chance = float(np.mean([chance_at(k, candidates, int(n)) for n in per_query]))
        metrics[f"{way}_r{k}"] = mean_metric(found.strict(k).tolist(), units, chance, records.seed)
        metrics[f"{way}_r{k}_expected"] = mean_metric(found.expected(k).tolist(), units, chance, records.seed)
    metrics[f"{way}_median_rank"] = Metric(float(np.median(rank)), n=len(rank), unit="number")
    metrics[f"{way}_tie_rate"] = Metric(found.tie_rate, n=len(rank))
    return metrics


def _image_examples(
    found: Ranking, scores_NM: NDArray[np.float32], samples: Sequence[Sample], texts: Sequence[str]
) -> list[dict[str, Any]]:
    rank, best = found.rank(), np.argsort(-scores_NM, axis=1, kind="stable")[:, :3]
    return [
        {
            "key": samples[i].key,
            "query": "",
            "right": bool(rank[i] == 1),
            "rank": int(rank[i]),
            "truth": samples[i].texts[0],
            "top": [texts[j] for j in best[i]],
        }
        for i in _some(rank)
    ]


def _text_examples(
    found: Ranking, scores_NM: NDArray[np.float32], samples: Sequence[Sample], texts: Sequence[str],
    owner_M: NDArray[np.int64],
) -> list[dict[str, Any]]:  # fmt: skip
    rank = found.rank()
    return [
        {
            "key": samples[owner_M[j]].key,
            "query": texts[j],
            "right": bool(rank[j] == 1),
            "rank": int(rank[j]),
            "truth": samples[owner_M[j]].key,
            "top": [{"key": samples[i].key} for i in np.argsort(-scores_NM[:, j], kind="stable")[:3]],
        }
        for j in _some(rank)
    ]


def _some(rank: NDArray[np.int64]) -> list[int]:
    """A few right and a few wrong queries, spread over the data."""
    right, wrong = np.flatnonzero(rank == 1), np.flatnonzero(rank > 1)
    chosen: list[int] = []
    for group in (right, wrong):
        if len(group):
            chosen += group[np.linspace(0, len(group) - 1, min(_EXAMPLES // 2, len(group))).astype(int)].tolist()
    return chosen


def tiny_data(folder: Path) -> Source:
    """Twelve scenes."""
    return Scenes("test", 12, SceneConfig(size=32, min_objects=2))
