"""A judge of generated pictures: another model, trained apart, chooses which prompt each picture is of."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.capabilities.load import load
from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable, Verb, missing
from diptych.core.errors import MissingVerb
from diptych.core.visual import Image
from diptych.evaluation.comparability import require
from diptych.evaluation.metrics.preference import expected_win, strict_win


def load_judge(reference: str) -> Predictor | None:
    """The model that a setting names; None where it names none.

    Raises:
        MissingVerb: it scores no sentences.
        NotComparable: its score does not compare the texts of one picture.
    """
    if not reference:
        return None
    judge = load(reference)
    if lacking := missing(judge.VERBS, [Verb.SCORE], reads_text=judge.READS_TEXT, sentences=True):
        raise MissingVerb(judge.name, lacking[0], judge.verbs)
    require(judge, Comparable.TEXTS, "judging which prompt a picture is of")
    return judge


def judged(judge: Predictor, image: Image, own: str, others: Sequence[str]) -> dict[str, float]:
    """Whether the judge finds a picture's own prompt among others: strictly, and with ties broken at random."""
    right, *wrong = checked(judge.score([image], [own, *others]), judge, own)[0].tolist()
    return {"judge": strict_win(right, wrong), "judge_expected": expected_win(right, wrong)}
