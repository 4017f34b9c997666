"""VisDial: a dialog about a picture; candidates for its next answer are put in order.

Das et al. 2017, arXiv 1611.08669. By log p(answer | picture, caption, dialog so far, question) where the model has
likelihoods, else by the score of question and answer. MRR, R@1, 5, 10 and the mean rank of the true answer; with dense
annotations NDCG. Ties count against in the strict numbers and are shared out in the expected ones. `--data` is the
folder of VisDial's files; on scenes the candidates are a question's choices.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable, Verb
from diptych.core.errors import DataError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.source import Source
from diptych.evaluation.answers.ranked_answers import Ranked, candidate_scores, ranks_by_likelihood
from diptych.evaluation.answers.sample_questions import questions_of_samples
from diptych.evaluation.answers.visdial_files import holds_visdial, read_visdial
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.comparability import require
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.encoding import reasons
from diptych.evaluation.files import AnnotationFolder
from diptych.evaluation.metrics.gain import ndcg, ndcg_by_chance
from diptych.evaluation.metrics.ranking import Ranking, chance_at, ranking
from diptych.evaluation.progress import shown
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("text_likelihood|score",)
SENTENCES = True
DATA = "scenes?count=100"
holds_files = holds_visdial

_AT = (1, 5, 10)
_OTHER = "_other_picture"


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        per_token: whether log-likelihoods are divided by the number of tokens.
        history: whether caption and dialog so far stand before the question, for models that rank by likelihood.
        blind: whether each question is asked of another picture too.
        images: the folder of the pictures; "" for `images` beside the files.
    """

    per_token: bool = False
    history: bool = True
    blind: bool = True
    images: str = ""


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Ranks the candidates of every question.

    Raises:
        DataError: no questions, files of another form, or none of the pictures.
        NotComparable: the model has no likelihood, and its score does not compare the texts of one picture.
    """
    if not ranks_by_likelihood(model):
        require(model, Comparable.TEXTS, "putting answers in order")
    questions = _questions(source, settings, records)
    others = Derangement([one.key for one in questions], records.seed)
    for index, one in enumerate(shown(questions, "answers in order", len(questions), records)):
        if one.key not in records.done:
            other = others.of(index, partial(_elsewhere, questions, index)) if settings.blind else None
            records.add(_record(model, one, None if other is None else questions[other], settings))
    done = [one for one in questions if records.done[one.key].status == "ok"]
    if not done:
        raise DataError(
            f"not one of {len(questions)} questions could be asked: {reasons(records)}; VisDial's pictures are "
            f"looked for in images/, or where visdial.images says"
        )
    verb = Verb.TEXT_LIKELIHOOD if ranks_by_likelihood(model) else Verb.SCORE
    return Outcome(_metrics(done, records), {}, (verb,))


def _questions(source: Source, settings: Settings, records: Records) -> list[Ranked]:
    if isinstance(source, AnnotationFolder):
        return read_visdial(source.folder, settings.images, records)
    found = [
        Ranked(one.key, one.picture, one.image, (), one.text, one.choices, one.choices.index(one.answers[0]))
        for one in questions_of_samples(source, records)
        if one.answers[0] in one.choices
    ]
    if not found:
        raise DataError(f"{source.name} has no question with choices to put in order")
    return found


def _elsewhere(questions: Sequence[Ranked], index: int, other: int) -> bool:
    return questions[other].picture != questions[index].picture


def _record(model: Predictor, one: Ranked, other: Ranked | None, settings: Settings) -> SampleRecord:
    """The record of one question: its ranks by its own picture and by another's."""
    try:
        image, instead = one.image(), None if other is None else other.image()
        if image is None:
            return SampleRecord(one.key, status="skipped: no picture")
        scores_M = candidate_scores(model, one, image, settings.per_token, settings.history)
        values = _values(one, scores_M)
        if instead is not None:
            by_other_M = candidate_scores(model, one, instead, settings.per_token, settings.history)
            values |= {f"{name}{_OTHER}": value for name, value in _values(one, by_other_M).items()}
    except BadSample as bad:
        return SampleRecord(one.key, status=bad.reason)
    except TextTooLong:
        return SampleRecord(one.key, status="skipped: the question does not fit")
    first = one.candidates[int(np.argmax(scores_M))]
    output = {"first": first, "right": one.candidates[one.right], "scores": np.round(scores_M, 4).tolist()}
    return SampleRecord(one.key, prompt=[*one.said, one.question], output=output, values=values)


def _values(one: Ranked, scores_M: NDArray[np.float64]) -> dict[str, float]:
    found = ranking(scores_M[None], (np.arange(len(scores_M)) == one.right)[None])  # type: ignore[arg-type]
    rank = float(found.rank()[0])
    values = {"mrr": 1 / rank, "mrr_expected": _expected_reciprocal(found), "mean_rank": rank}
    for k in _AT:
        if k < len(scores_M):
            values |= {f"r{k}": float(found.strict(k)[0]), f"r{k}_expected": float(found.expected(k)[0])}
    return values | ({"ndcg": ndcg(scores_M, one.relevance)} if any(one.relevance) else {})


def _expected_reciprocal(found: Ranking) -> float:
    """The mean of 1 / rank over all orders of the tied."""
    above, tied = int(found.above_N[0]), int(found.tied_N[0])
    return float(np.mean(1 / np.arange(above + 1, above + tied + 2)))


def _metrics(done: Sequence[Ranked], records: Records) -> dict[str, Metric]:
    metrics = {}
    names = ["ndcg", "mrr", "mrr_expected", *(f"r{k}{end}" for k in _AT for end in ("", "_expected")), "mean_rank"]
    for name in names:
        for suffix in ("", _OTHER) if not name.endswith("_expected") else ("",):
            some = [one for one in done if f"{name}{suffix}" in records.done[one.key].values]
            if not some:
                continue
            values = [records.done[one.key].values[f"{name}{suffix}"] for one in some]
            chance = None if suffix or name == "mean_rank" else float(np.mean([_chance(name, one) for one in some]))
            metric = mean_metric(values, [one.picture for one in some], chance, records.seed)
            metrics[f"{name}{suffix}"] = replace(metric, unit="number") if name == "mean_rank" else metric
    return metrics


def _chance(name: str, one: Ranked) -> float:
    """Of a random order."""
    if name == "ndcg":
        return ndcg_by_chance(one.relevance)
    if name.startswith("mrr"):
        return float(np.mean(1 / np.arange(1, len(one.candidates) + 1)))
    return chance_at(int(name.removesuffix("_expected")[1:]), len(one.candidates), 1)


def tiny_data(folder: Path) -> Source:
    """Two dialogs of one round with two candidates, in VisDial's files."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    dialogs = []
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (32, 32), colour).save(folder / "images" / f"{number:012d}.jpg")
        turn = {"question": 0, "answer": number, "answer_options": [0, 1], "gt_index": number}
        dialogs.append({"image_id": number, "caption": "a square", "dialog": [turn]})
    data = {"questions": ["what colour is it"], "answers": ["red", "blue"], "dialogs": dialogs}
    (folder / "visdial_1.0_val.json").write_text(json.dumps({"data": data}), encoding="utf-8")
    return AnnotationFolder(folder)
