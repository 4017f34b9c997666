"""A picture and several captions, one of them true: what the composition benchmarks of files share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.visual import Image
from diptych.evaluation.benchmark import Records
from diptych.evaluation.encoding import checked
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


def decide(model: Any, choices: Iterable[Choice], records: Records) -> None:
    """Scores every choice that has no record yet; a missing picture is skipped and counted."""
    for choice in choices:
        if choice.key not in records.done:
            records.add(_decided(model, choice))


def _decided(model: Any, choice: Choice) -> SampleRecord:
    if choice.image is None:
        return SampleRecord(choice.key, status="skipped: no picture")
    texts = [choice.true, *choice.false]
    try:
        right, *wrong = checked(model.score([choice.image], texts), model, choice.key)[0].tolist()
    except BadSample as bad:
        return SampleRecord(choice.key, status=bad.reason)
    values = {
        choice.group: strict_win(right, wrong),
        f"{choice.group}_expected": expected_win(right, wrong),
        f"{choice.group}_tie_rate": tied(right, wrong),
    }
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
