"""Caption metrics of a corpus with their intervals over pictures.

R resamples, N pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diptych.core.records.results import Metric
from diptych.core.seeding import hash_to_int
from diptych.evaluation.metrics.caption_bleu import bleu
from diptych.evaluation.metrics.captioning import BLEU_NAMES, CaptionValues
from diptych.evaluation.statistics import RESAMPLES, mean_metric

_CHUNK = 200


def corpus_metrics(values: CaptionValues, chance: Mapping[str, float], seed: int = 0) -> dict[str, Metric]:
    """BLEU, ROUGE-L and CIDEr-D with 95 % bootstrap intervals.

    Pictures are drawn anew; BLEU is computed from the sum of their counts, and what CIDEr-D knows of how often n-grams
    are said stays as it is.

    Args:
        chance: by metric, what captions of other pictures get.
    """
    found = bleu_metrics(values.bleu_counts_R10, chance, seed)
    found["rouge_l"] = mean_metric(values.rouge_l_R.tolist(), chance=chance.get("rouge_l"), seed=seed)
    cider = mean_metric(values.cider_R.tolist(), chance=chance.get("cider"), seed=seed)
    return found | {"cider": replace(cider, unit="number")}


def bleu_metrics(columns_N10: NDArray[np.float64], chance: Mapping[str, float], seed: int) -> dict[str, Metric]:
    """BLEU-1 to BLEU-4 of the sum of the rows."""
    (value_4,) = bleu(columns_N10.sum(0, keepdims=True)).tolist()
    low_4, high_4 = np.quantile(_resampled(columns_N10, seed), [0.025, 0.975], axis=0).tolist()
    return {
        name: Metric(value, low, high, chance.get(name), len(columns_N10))
        for name, value, low, high in zip(BLEU_NAMES, value_4, low_4, high_4, strict=True)
    }


def _resampled(columns_N10: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """[R, 4]: of bootstrap samples of the pictures."""
    rng = np.random.Generator(np.random.PCG64(hash_to_int("bootstrap", seed)))
    number = len(columns_N10)
    even = np.full(number, 1 / number)
    sums = [rng.multinomial(number, even, _CHUNK) @ columns_N10 for _ in range(RESAMPLES // _CHUNK)]
    return bleu(np.concatenate(sums))
