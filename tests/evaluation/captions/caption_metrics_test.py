"""Intervals of caption metrics, against pictures that are drawn anew one by one."""

import numpy as np
import pytest

from diptych.evaluation.captions.intervals import bleu_metrics, corpus_metrics
from diptych.evaluation.metrics.caption_bleu import bleu
from diptych.evaluation.metrics.captioning import BLEU_NAMES, CaptionScorer

SAID = [[f"a dog w{i} runs w{i % 7} on w{i % 3} grass"] for i in range(60)]
CANDIDATES = [said[0] if i % 4 else "a dog w1 sits on snow" for i, said in enumerate(SAID)]


def test_the_interval_of_bleu_is_that_of_the_sum_of_counts() -> None:
    columns_N10 = CaptionScorer(SAID).values(CANDIDATES).bleu_counts_R10
    found = bleu_metrics(columns_N10, {"bleu_2": 0.25}, seed=0)
    rng = np.random.default_rng(1)
    drawn = [bleu(columns_N10[rng.integers(60, size=60)].sum(0, keepdims=True))[0] for _ in range(2000)]
    low_4, high_4 = np.quantile(drawn, [0.025, 0.975], axis=0)
    for order, name in enumerate(BLEU_NAMES):
        assert found[name].low == pytest.approx(low_4[order], abs=0.02)
        assert found[name].high == pytest.approx(high_4[order], abs=0.02)
        assert found[name].n == 60
    assert found["bleu_2"].chance == 0.25 and found["bleu_1"].chance is None
    assert found == bleu_metrics(columns_N10, {"bleu_2": 0.25}, seed=0) != bleu_metrics(columns_N10, {}, seed=1)


def test_values_are_those_of_the_corpus() -> None:
    values = CaptionScorer(SAID).values(CANDIDATES)
    found = corpus_metrics(values, {"cider": 0.5})
    assert {name: metric.value for name, metric in found.items()} == pytest.approx(values.whole())
    assert found["cider"].unit == "number" and found["cider"].chance == 0.5 and found["rouge_l"].unit == "share"
