"""A picture and several captions, one of them true: what the composition benchmarks of files share.

Where the score is a text's likelihood each accuracy has two companions: `_blind`, of the texts without the picture, and
`_blind_corrected`, of the score less that (evaluation/blind_likelihood.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable
from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.visual import Image
from diptych.evaluation.benchmark import Records
from diptych.evaluation.blind_likelihood import ALPHA, SUFFIX, blind_scores, corrected, scores_by_text_likelihood
from diptych.evaluation.comparability import require
from diptych.evaluation.metrics.preference import expected_win, strict_win, tied
from diptych.evaluation.statistics import mean_metric


@dataclass(frozen=True)
class Choice:
    """One question.

    Attributes:
        key: unique.
        image: the picture; None where the user does not have it.
        true: the right caption.
        false: the wrong ones.
        group: the part of the benchmark it counts for.
    """

    key: str
    image: Image | None
    true: str
    false: tuple[str, ...]
    group: str


def decide(model: Predictor, choices: Iterable[Choice], records: Records) -> None:
    """Scores every choice that has no record yet; a missing picture is skipped and counted.

    Raises:
        NotComparable: the model's score does not compare the texts of one picture.
    """
    require(model, Comparable.TEXTS, "a choice among captions")
    for choice in choices:
        if choice.key not in records.done:
            records.add(_decided(model, choice))


def _decided(model: Predictor, choice: Choice) -> SampleRecord:
    if choice.image is None:
        return SampleRecord(choice.key, status="skipped: no picture")
    texts = [choice.true, *choice.false]
    try:
        scores_M = checked(model.score([choice.image], texts), model, choice.key)[0]
    except BadSample as bad:
        return SampleRecord(choice.key, status=bad.reason)
    right, *wrong = scores_M.tolist()
    values = {
        choice.group: strict_win(right, wrong),
        f"{choice.group}_expected": expected_win(right, wrong),
        f"{choice.group}_tie_rate": tied(right, wrong),
    }
    if scores_by_text_likelihood(model):
        blind_M = blind_scores(model, texts)
        better, *worse = corrected(scores_M, blind_M, ALPHA).tolist()
        values[f"{choice.group}_blind"] = strict_win(float(blind_M[0]), blind_M[1:].tolist())
        values[f"{choice.group}{SUFFIX}"] = strict_win(better, worse)
    return SampleRecord(choice.key, prompt=texts, output=[right, *wrong], values=values)


def choice_metrics(records: Records, groups: Sequence[str], chance: dict[str, float]) -> dict[str, Metric]:
    """Accuracy of each group with its expectation and tie rate, and the mean over groups.

    Raises:
        DataError: not a single picture was found.
    """
    metrics: dict[str, Metric] = {}
    strict: list[float] = []
    fair: list[float] = []
    for group in groups:
        values, _ = records.values(group)
        if not values:
            continue
        metrics[group] = mean_metric(values, None, chance[group], records.seed)
        expected, _ = records.values(f"{group}_expected")
        metrics[f"{group}_expected"] = mean_metric(expected, None, chance[group], records.seed)
        for name in (f"{group}_blind", f"{group}{SUFFIX}"):
            if of := records.values(name)[0]:
                metrics[name] = mean_metric(of, None, chance[group], records.seed)
        ties, _ = records.values(f"{group}_tie_rate")
        metrics[f"{group}_tie_rate"] = Metric(sum(ties) / len(ties), n=len(ties))
        strict.append(metrics[group].value)
        fair.append(metrics[f"{group}_expected"].value)
    if not metrics:
        raise DataError("none of the benchmark's pictures were found: name their folder with images=FOLDER")
    mean_chance = sum(chance[group] for group in groups if group in metrics) / len(strict)
    macro = {
        "macro": Metric(sum(strict) / len(strict), chance=mean_chance, n=len(strict)),
        "macro_expected": Metric(sum(fair) / len(fair), chance=mean_chance, n=len(fair)),
    }
    return macro | metrics


def picture(folder: Path, name: str) -> Image | None:
    """A picture of a folder, or None."""
    path = folder / name
    return Image(encoded=path.read_bytes(), name=name) if path.is_file() else None
