"""Image-text retrieval, both ways.

Recall at k as the field counts it: a picture finds its text when any of its captions is among the first k; every
caption is a query of its own for its picture. Strict (a tie counts against) beside the expectation under random
tie-breaking and the tie rate. A pool of pictures beyond `pool` is cut down to a fixed, seeded one, the same for every
model, and its size is printed with the numbers.

A score that is comparable over the texts of one picture only (a picture's likelihood) is asked one way, and the result
says why not the other. Where the score is a text's likelihood, image to text comes a second time, corrected for what
is likely without any picture (evaluation/blind_likelihood.py).

With `rerank` the matching head of a model that has one puts the first candidates of every query in order; what the
first stage alone would have found stands beside the result as `first_stage_...`.

Q queries, X candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable
from diptych.core.errors import ConfigError, unknown_name
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.blind_likelihood import (
    ALPHA,
    SUFFIX,
    blind_scores,
    check_alpha,
    correction_note,
    scores_by_text_likelihood,
)
from diptych.evaluation.comparability import refusal, require, supports
from diptych.evaluation.encoding import scores_by_pairs
from diptych.evaluation.metrics.ranking import Ranking, chance_at, ranking
from diptych.evaluation.ranking.candidates import Candidates, score_everything
from diptych.evaluation.ranking.pools import pool_of
from diptych.evaluation.ranking.reranking import require_two_stages, reranked
from diptych.evaluation.ranking.retrieved import image_examples, text_examples
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("score",)
SENTENCES = True
DATA = "scenes?min_objects=2"

POOL, PAIRWISE_POOL = 5000, 250
WAYS = {"image_to_text": Comparable.TEXTS, "text_to_image": Comparable.VISUALS}
"""Each way, and over what a score must be comparable for it."""


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        ks: the k of R@k.
        pool: the most pictures to rank among; 0 for 5,000, or 250 where the model looks at every pair.
        directions: which ways, of "image_to_text" and "text_to_image"; () for those that the score supports.
        rerank: how many candidates of each query, chosen by cosine, the matching head puts in order; 0 for none.
        captions: the first so many captions of each picture only; 0 for all.
        blind_alpha: weight of log p(text) in the correction of text likelihoods; 0 for no corrected numbers.
    """

    ks: tuple[int, ...] = (1, 5, 10)
    pool: int = 0
    directions: tuple[str, ...] = ()
    rerank: int = 0
    captions: int = 0
    blind_alpha: float = ALPHA

    def __post_init__(self) -> None:
        for name in ("pool", "rerank", "captions"):
            if getattr(self, name) < 0:
                raise ConfigError(f"retrieval.{name} {getattr(self, name)} must be 0 or more")
        check_alpha(self.blind_alpha, "retrieval")
        for way in self.directions:
            if way not in WAYS:
                raise unknown_name("direction of retrieval", way, WAYS)


@dataclass(frozen=True)
class Ranked:
    """One way of retrieval: the final scores, and whose queries they are.

    Attributes:
        first_QX: the scores of the first stage, where there are two.
        corrected_QX: the scores less those of no picture, where they are text likelihoods.
        keys: of the queries' records; units: the picture that each query belongs to.
    """

    way: str
    final_QX: NDArray[np.float32]
    first_QX: NDArray[np.float32] | None
    corrected_QX: NDArray[np.float32] | None
    right_QX: NDArray[np.bool_]
    keys: list[str]
    units: list[str]


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Ranks every caption for every picture and the other way round.

    Raises:
        NotComparable: a direction that was asked for and that the model's score does not support.
        ConfigError: re-ranking by a model that has not both stages.
    """
    ways, notes = _ways(model, settings.directions)
    if settings.rerank:
        require_two_stages(model, settings.rerank)
    size = settings.pool or (PAIRWISE_POOL if scores_by_pairs(model) else POOL)
    found = score_everything(model, pool_of(source, size, settings.captions, records.seed), records)
    pictures = len(found.samples)
    metrics: dict[str, Metric] = {"pool": Metric(float(pictures), n=pictures, unit="number")}
    gallery = []
    for ranked in _ranked(model, found, ways, settings, records):
        ranks = ranking(ranked.final_QX, ranked.right_QX).rank()
        metrics |= _metrics(ranked, settings, records)
        examples = image_examples if ranked.way == "image_to_text" else text_examples
        gallery += examples(ranks, ranked.final_QX, found)
        notes += [correction_note(settings.blind_alpha)] if ranked.corrected_QX is not None else []
    extras = {"gallery": gallery, "pool": {"pictures": pictures, "captions": len(found.texts)}}
    extras |= {"notes": notes} if notes else {}
    return Outcome(metrics, extras, ("score", "score_pairs") if settings.rerank else REQUIRES)


def _ways(model: Predictor, asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ways to go, and a sentence for each that is not gone."""
    for way in asked:
        require(model, WAYS[way], f"{way} retrieval", "set the benchmark's directions to the one that it supports")
    possible = [way for way, needed in WAYS.items() if supports(model, needed)]
    refused = [f"No {way}: {refusal(model, f'{way} retrieval')}." for way in WAYS if way not in possible]
    return [way for way in possible if way in (asked or WAYS)], [] if asked else refused


def _ranked(
    model: Predictor, found: Candidates, ways: Sequence[str], settings: Settings, records: Records
) -> list[Ranked]:
    """Each way that is gone."""
    scores = {way: found.scores_NM if way == "image_to_text" else found.scores_NM.T for way in ways}
    final = reranked(model, found, settings.rerank, ways, records) if settings.rerank else scores
    pictures = [sample.key for sample in found.samples]
    owners = [pictures[owner] for owner in found.owner_M]
    names = {"image_to_text": ([f"{key}#" for key in pictures], pictures), "text_to_image": (_numbered(owners), owners)}
    right = {"image_to_text": found.right(), "text_to_image": found.right().T}
    corrected = _corrected(model, found, settings.blind_alpha) if "image_to_text" in ways else {}
    return [
        Ranked(way, final[way], scores[way] if settings.rerank else None, corrected.get(way), right[way], *names[way])
        for way in ways
    ]


def _corrected(model: Predictor, found: Candidates, alpha: float) -> dict[str, NDArray[np.float32]]:
    """Image to text by the corrected scores; the other way the correction is one number a query and changes nothing."""
    if not alpha or not scores_by_text_likelihood(model):
        return {}
    blind_M = (alpha * blind_scores(model, found.texts)).float().cpu().numpy()
    return {"image_to_text": found.scores_NM - blind_M}


def _numbered(units: Sequence[str]) -> list[str]:
    """ "key#0", "key#1" ... for the captions of each picture."""
    seen: dict[str, int] = {}
    keys = []
    for unit in units:
        keys.append(f"{unit}#{seen.get(unit, 0)}")
        seen[unit] = seen.get(unit, 0) + 1
    return keys


def _metrics(ranked: Ranked, settings: Settings, records: Records) -> dict[str, Metric]:
    """Recalls with intervals and chance; a record for each query."""
    final, ks = ranking(ranked.final_QX, ranked.right_QX), settings.ks
    hits = {f"{ranked.way}_r{k}": final.strict(k).tolist() for k in ks}
    first: dict[str, Metric] = {}
    if ranked.first_QX is not None:
        before = ranking(ranked.first_QX, ranked.right_QX)
        # What the first stage leaves out of its candidates no second stage can find.
        before_ks = sorted({*ks, settings.rerank})
        hits |= {f"first_stage_{ranked.way}_r{k}": before.strict(k).tolist() for k in before_ks}
        first = _stage(f"first_stage_{ranked.way}", before, before_ks, ranked, records.seed)
        first = _strict(first)
    corrected: dict[str, Metric] = {}
    if ranked.corrected_QX is not None:
        after = ranking(ranked.corrected_QX, ranked.right_QX)
        hits |= {f"{ranked.way}_r{k}{SUFFIX}": after.strict(k).tolist() for k in ks}
        plain = _strict(_stage(ranked.way, after, ks, ranked, records.seed))
        corrected = {f"{name}{SUFFIX}": metric for name, metric in plain.items()}
    ranks = final.rank().tolist()
    records.add(
        *(
            SampleRecord(key, output={"rank": ranks[i]}, values={name: of[i] for name, of in hits.items()})
            for i, key in enumerate(ranked.keys)
        )
    )
    return _stage(ranked.way, final, ks, ranked, records.seed) | corrected | first


def _strict(metrics: dict[str, Metric]) -> dict[str, Metric]:
    return {name: metric for name, metric in metrics.items() if not name.endswith(("_expected", "_tie_rate"))}


def _stage(name: str, found: Ranking, ks: Sequence[int], ranked: Ranked, seed: int) -> dict[str, Metric]:
    """The numbers of one stage."""
    candidates, per_query = ranked.right_QX.shape[1], ranked.right_QX.sum(1)
    metrics = {}
    for k in ks:
        chance = float(np.mean([chance_at(k, candidates, int(n)) for n in per_query]))
        metrics[f"{name}_r{k}"] = mean_metric(found.strict(k).tolist(), ranked.units, chance, seed)
        metrics[f"{name}_r{k}_expected"] = mean_metric(found.expected(k).tolist(), ranked.units, chance, seed)
    metrics[f"{name}_median_rank"] = Metric(float(np.median(found.rank())), n=len(ranked.keys), unit="number")
    metrics[f"{name}_tie_rate"] = Metric(found.tie_rate, n=len(ranked.keys))
    return metrics


def tiny_data(folder: Path) -> Source:
    """Twelve scenes."""
    return Scenes("test", 12, SceneConfig(size=32, min_objects=2))
