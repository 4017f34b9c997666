"""What captions come to: metrics beside the same captions on other pictures, beside baselines, and a gallery.

N pictures that have a caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diptych.core.records.results import Metric
from diptych.core.sample import Sample
from diptych.evaluation.captions.intervals import corpus_metrics
from diptych.evaluation.captions.scene_truth import NAMING, PRECISION, RECALL, is_scene, truth_of
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.metrics.captioning import CaptionScorer
from diptych.evaluation.statistics import mean_metric, paired, standard_error

BASELINE_METRICS = ("bleu_4", "rouge_l", "cider")
_EXAMPLES = 4


@dataclass(frozen=True)
class Captioned:
    """Pictures with the captions that they got.

    Attributes:
        scorer: knows the references of all pictures of the data.
        positions: of the pictures among those.
        samples, captions: of the N pictures.
        seed: of the bootstrap, and of who is whose other picture.
    """

    scorer: CaptionScorer
    positions: list[int]
    samples: list[Sample]
    captions: list[str]
    seed: int

    def elsewhere(self) -> list[str] | None:
        """For each picture the caption of another one; None where there is only one picture."""
        others = Derangement([sample.key for sample in self.samples], self.seed)
        found = [others.of(index, lambda _: True) for index in range(len(self.samples))]
        return [self.captions[index] for index in found if index is not None] if len(found) > 1 else None


def overlap_metrics(done: Captioned) -> dict[str, Metric]:
    """BLEU, ROUGE-L, CIDEr-D, with those of other pictures' captions as their chance, and what CIDEr-D gains."""
    own = done.scorer.values(done.captions, done.positions)
    if (elsewhere := done.elsewhere()) is None:
        return corpus_metrics(own, {}, done.seed)
    other = done.scorer.values(elsewhere, done.positions)
    gain, _ = paired(other.cider_R.tolist(), own.cider_R.tolist(), seed=done.seed)
    error = standard_error((own.cider_R - other.cider_R).tolist())
    return corpus_metrics(own, other.whole(), done.seed) | {
        "cider_gain": replace(gain, chance=None, unit="number"),
        "cider_gain_standard_error": Metric(error, n=len(done.samples), unit="number"),
    }


def scene_metrics(done: Captioned) -> dict[str, Metric]:
    """Whether the coloured shapes that captions name are there, beside the captions of other pictures.

    Nothing where the data are no scenes.
    """
    if not all(is_scene(sample.meta) for sample in done.samples):
        return {}
    own = _truths(done.captions, done.samples)
    metrics = {NAMING: mean_metric(own[NAMING], seed=done.seed)}
    other = _truths(elsewhere, done.samples) if (elsewhere := done.elsewhere()) else None
    for name in (PRECISION, RECALL):
        if other is None:
            metrics[name] = mean_metric(own[name], seed=done.seed)
            continue
        elsewhere_metric = mean_metric(other[name], seed=done.seed)
        metrics[name] = mean_metric(own[name], None, elsewhere_metric.value, done.seed)
        metrics[f"{name}_other_picture"] = elsewhere_metric
    return metrics


def _truths(captions: Sequence[str], samples: Sequence[Sample]) -> dict[str, list[float]]:
    rows = [truth_of(caption, sample.meta) for caption, sample in zip(captions, samples, strict=True)]
    return {name: [row[name] for row in rows] for name in (PRECISION, RECALL, NAMING)}


def baseline_metrics(done: Captioned, name: str, captions: Sequence[str]) -> dict[str, Metric]:
    """The same metrics of captions that no captioner made.

    Args:
        name: of the baseline: behind the metric's.
        captions: one for each of the N pictures.
    """
    found = corpus_metrics(done.scorer.values(captions, done.positions), {}, done.seed)
    return {f"{metric}_{name}": found[metric] for metric in BASELINE_METRICS}


def gallery(done: Captioned) -> list[dict[str, Any]]:
    """The captions that CIDEr-D likes best and least, with what people say of the pictures."""
    cider_N = done.scorer.values(done.captions, done.positions).cider_R
    order = np.argsort(-cider_N, kind="stable").tolist()
    half = len(order) // 2
    chosen = [(index, True) for index in order[:_EXAMPLES][: len(order) - half]]
    chosen += [(index, False) for index in order[::-1][:_EXAMPLES][:half]]
    return [
        {
            "key": done.samples[index].key,
            "query": "",
            "right": best,
            "rank": None,
            "truth": " / ".join(text for text in done.samples[index].texts if text.strip()),
            "top": [{"text": done.captions[index], "score": round(float(cider_N[index]), 3)}],
        }
        for index, best in chosen
    ]
