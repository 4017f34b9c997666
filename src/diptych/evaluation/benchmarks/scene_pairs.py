"""Composition on scenes: two pictures, two captions of the same words (as in Winoground).

Text score: each picture prefers its caption. Image score: each caption prefers its picture. Group: both. Strict, beside
the expectation when ties are broken at random, for which chance is 1/4, 1/4 and 1/6. A score that compares the texts of
one picture only gets the text score only. Where it is a text's likelihood, text and group score come a second time,
corrected for what is likely without any picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import ScenePairs
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.blind_likelihood import (
    ALPHA,
    SUFFIX,
    blind_scores,
    check_alpha,
    corrected,
    correction_note,
    scores_by_text_likelihood,
)
from diptych.evaluation.comparability import refusal, supports
from diptych.evaluation.metrics.preference import winoground, winoground_expected
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("score",)
SENTENCES = True
DATA = "scenes?kind=pairs&count=400"

CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}


NEEDS = {"text": (Comparable.TEXTS,), "image": (Comparable.VISUALS,), "group": (Comparable.TEXTS, Comparable.VISUALS)}
"""Over what a score must be comparable for each."""


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        blind_alpha: weight of log p(text) in the correction of text likelihoods; 0 for no corrected numbers.
    """

    blind_alpha: float = ALPHA

    def __post_init__(self) -> None:
        check_alpha(self.blind_alpha, "scene_pairs")


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Scores the four combinations of every pair."""
    for sample in records.samples(source):
        if sample.key not in records.done:
            score_pair(model, sample, records, settings.blind_alpha)
    return Outcome(pair_metrics(records), pair_extras(model, settings.blind_alpha))


def supported(model: Predictor) -> list[str]:
    """Which of text, image and group score the model's score makes sense of."""
    return [name for name, needed in NEEDS.items() if all(supports(model, one) for one in needed)]


def score_pair(model: Predictor, sample: Sample, records: Records, alpha: float = ALPHA) -> None:
    """Adds the record of one pair: two visuals, two texts, and perhaps `meta["kind"]`.

    Args:
        alpha: of the correction of text likelihoods.
    """
    if len(sample.visuals) != 2 or len(sample.texts) != 2:
        records.fail(BadSample(sample.key, "not a pair"))
        return
    texts = list(sample.texts)
    try:
        scores_22 = checked(model.score(list(sample.visuals), texts), model, sample.key)
    except BadSample as bad:
        records.fail(BadSample(sample.key, bad.reason, bad.detail))
        return
    scores = scores_22.T.tolist()
    values = _values(scores, supported(model))
    if alpha and scores_by_text_likelihood(model):
        better = corrected(scores_22, blind_scores(model, texts), alpha).T.tolist()
        # One caption's pictures are compared as before: what is taken off is the same for both.
        values |= {f"{name}{SUFFIX}": value for name, value in winoground(better).items() if name != "image"}
    kind = str(sample.meta.get("kind", ""))
    values |= {f"{name}_{kind}": values[name] for name in CHANCE if kind and name in values}
    records.add(SampleRecord(sample.key, prompt=texts, output=scores, values=values))


def _values(scores: Sequence[Sequence[float]], names: Sequence[str]) -> dict[str, float]:
    """What one pair counts for; rows of scores are captions."""
    strict, fair = winoground(scores), winoground_expected(scores)
    flat = [score for row in scores for score in row]
    tied = {"tied": float(len(set(flat)) < len(flat))}
    return {name: strict[name] for name in names} | {f"{name}_expected": fair[name] for name in names} | tied


def pair_metrics(records: Records) -> dict[str, Metric]:
    """Every score over all pairs, then by kind."""
    present = {name for record in records.done.values() for name in record.values} - {"tied"}
    first = [f"{name}{end}" for end in ("", "_expected", SUFFIX) for name in CHANCE]
    metrics = {}
    for name in (*(name for name in first if name in present), *sorted(present - {*first})):
        chance = CHANCE[name.partition("_")[0]]
        metrics[name] = mean_metric(records.values(name)[0], None, chance, records.seed)
    tied, _ = records.values("tied")
    metrics["tie_rate"] = Metric(sum(tied) / max(len(tied), 1), n=len(tied))
    return metrics


def pair_extras(model: Predictor, alpha: float) -> dict[str, Any]:
    """What the report says of the numbers: which are left out, and what was corrected."""
    left_out = [name for name in NEEDS if name not in supported(model)]
    notes = [f"No {' and no '.join(left_out)} score: {refusal(model, 'it')}."] if left_out else []
    notes += [correction_note(alpha)] if alpha and scores_by_text_likelihood(model) else []
    return {"notes": notes} if notes else {}


def tiny_data(folder: Path) -> Source:
    """Six pairs."""
    return ScenePairs("test", 6, SceneConfig(size=32))
