"""Composition on scenes: two pictures, two captions of the same words (as in Winoground).

Text score: each picture prefers its caption. Image score: each caption prefers its picture. Group: both. Strict, beside
the expectation when ties are broken at random, for which chance is 1/4, 1/4 and 1/6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import ScenePairs
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import checked
from diptych.evaluation.metrics.preference import winoground, winoground_expected
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("score",)
SENTENCES = True
DATA = "scenes?kind=pairs&count=400"

CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}


@dataclass(frozen=True)
class Settings:
    """Nothing to choose."""


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Scores the four combinations of every pair."""
    for sample in records.samples(source):
        if sample.key not in records.done:
            score_pair(model, sample, records)
    return Outcome(pair_metrics(records))


def score_pair(model: Any, sample: Sample, records: Records) -> None:
    """Adds the record of one pair: two visuals, two texts, and perhaps `meta["kind"]`."""
    if len(sample.visuals) != 2 or len(sample.texts) != 2:
        records.fail(BadSample(sample.key, "not a pair"))
        return
    try:
        scores_22 = model.score(list(sample.visuals), list(sample.texts)).T
    except BadSample as bad:
        records.fail(BadSample(sample.key, bad.reason, bad.detail))
        return
    scores = checked(scores_22, model, sample.key).tolist()
    values = dict(winoground(scores))
    values |= {f"{name}_expected": value for name, value in winoground_expected(scores).items()}
    flat = [score for row in scores for score in row]
    values["tied"] = float(len(set(flat)) < len(flat))
    kind = str(sample.meta.get("kind", ""))
    values |= {f"{name}_{kind}": values[name] for name in CHANCE if kind}
    records.add(SampleRecord(sample.key, prompt=list(sample.texts), output=scores, values=values))


def pair_metrics(records: Records) -> dict[str, Metric]:
    """Every score over all pairs, then by kind."""
    names: Sequence[str] = [*CHANCE, *(f"{name}_expected" for name in CHANCE)]
    by_kind = sorted({n for r in records.done.values() for n in r.values} - {*names, "tied"})
    metrics = {}
    for name in (*names, *by_kind):
        chance = CHANCE[name.partition("_")[0]]
        metrics[name] = mean_metric(records.values(name)[0], None, chance, records.seed)
    tied, _ = records.values("tied")
    metrics["tie_rate"] = Metric(sum(tied) / max(len(tied), 1), n=len(tied))
    return metrics


def tiny_data(folder: Path) -> Source:
    """Six pairs."""
    return ScenePairs("test", 6, SceneConfig(size=32))
