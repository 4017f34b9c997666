"""Parts of a picture are hidden: are they filled in better with its own caption than with another's?

Squared error on the hidden cells of each picture as the model sees it, with the picture's own caption and with that of
another picture, beside the mean colour of the visible cells. What a model continues from the visible part alone is in
both errors, so their difference is what it draws from the words. `variance_explained` is 1 less the error over that of
the mean colour: 1 is exact, 0 is no better than the colour, and below 0 is worse.

Cells are hidden in blocks, chosen by a hash of the key; each model hides the patches that touch them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diptych.core.errors import ConfigError, DataError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import batched
from diptych.evaluation.masked.filled_pictures import (
    Captioned,
    caption_of,
    fill,
    hidden_cells,
    other_captions,
    shown_rows,
)
from diptych.evaluation.metrics.preference import expected_win, strict_win, tied
from diptych.evaluation.progress import shown
from diptych.evaluation.statistics import interval, mean_metric, paired, standard_error

REQUIRES = ("fill_image",)
SENTENCES = True
DATA = "scenes?min_objects=2"

_BATCH = 32


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        share: of the cells that is hidden.
        cells: how many there are along each side of the picture.
        block: the side of the blocks that are hidden together, in cells.
        examples: how many pictures the report shows.
    """

    share: float = 0.6
    cells: int = 8
    block: int = 2
    examples: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"masked_patches.share {self.share} must be above 0 and below 1")
        if not 1 <= self.block < self.cells:
            raise ConfigError(f"masked_patches.block {self.block} must be at least 1 and below cells ({self.cells})")


def run(model: Any, source: Source, settings: Settings, records: Records) -> Outcome:
    """Fills in the hidden cells of every picture, with both captions.

    Raises:
        DataError: fewer than two pictures with captions that differ.
    """
    asked = _asked([sample for sample in records.samples(source) if records.has_caption(sample)], settings, records)
    left = [one for one in asked if one.sample.key not in records.done]
    batches = list(batched(left, _BATCH))
    for some in shown(batches, "hidden patches", len(batches), records):
        _ask(model, some, records)
    good = [one for one in asked if records.done[one.sample.key].status == "ok"]
    if not good:
        raise DataError(f"{source.name} has no two pictures with captions that differ, or none of them can be read")
    places = np.unique(np.linspace(0, len(good) - 1, min(settings.examples, len(good))).astype(int))
    examples = [good[place] for place in places]
    return Outcome(_metrics(records), {"pictures": shown_rows(examples, fill(model, examples)) if examples else []})


def _asked(samples: Sequence[Sample], settings: Settings, records: Records) -> list[Captioned]:
    """What is hidden of each picture, and what is said of it; a record for those that no other caption is false of."""
    found = []
    for sample, other in zip(samples, other_captions(samples, records.seed), strict=True):
        if other is None:
            records.add(SampleRecord(sample.key, status="skipped: no other caption"))
            continue
        hidden = hidden_cells(sample.key, settings.cells, settings.block, settings.share, records.seed)
        found.append(Captioned(sample, caption_of(sample), other, hidden))
    return found


def _ask(model: Any, asked: Sequence[Captioned], records: Records) -> None:
    """A record for each; one by one only where a picture among them is bad."""
    try:
        filled = fill(model, asked)
    except (BadSample, TextTooLong) as error:
        if len(asked) == 1:
            reason = error.reason if isinstance(error, BadSample) else "skipped: the caption does not fit"
            records.add(SampleRecord(asked[0].sample.key, status=reason))
            return
        for one in asked:
            _ask(model, [one], records)
        return
    records.add(*(_record(one, *found.errors()) for one, found in zip(asked, filled, strict=True)))


def _record(one: Captioned, own: float, other: float, flat: float) -> SampleRecord:
    values = {
        "own_caption_closer": strict_win(-own, [-other]),
        "own_caption_closer_expected": expected_win(-own, [-other]),
        "tie_rate": tied(-own, [-other]),
        "error": own,
        "error_other_caption": other,
        "error_mean_colour": flat,
    }
    return SampleRecord(one.sample.key, prompt=[one.own, one.other], output=[own, other], values=values)


def _metrics(records: Records) -> dict[str, Metric]:
    """Which caption is nearer, the share of variance explained, then errors and decibels, with intervals."""
    own, other, flat = (records.values(f"error{name}")[0] for name in ("", "_other_caption", "_mean_colour"))
    closer, _ = records.values("own_caption_closer")
    expected, _ = records.values("own_caption_closer_expected")
    ties, _ = records.values("tie_rate")
    gain, _ = paired(own, other, seed=records.seed)
    metrics = {
        "own_caption_closer": mean_metric(closer, None, 1 / 2, records.seed),
        "own_caption_closer_expected": mean_metric(expected, None, 1 / 2, records.seed),
        "tie_rate": Metric(sum(ties) / len(ties), n=len(ties)),
        "variance_explained": _explained(own, flat, records.seed),
        "variance_explained_other_caption": _explained(other, flat, records.seed),
        "error_gain": replace(gain, chance=None, unit="number"),
    }
    if len(own) > 1:
        spread = standard_error([b - a for a, b in zip(own, other, strict=True)])
        metrics["error_gain_standard_error"] = Metric(spread, n=len(own), unit="number")
    for name, errors in (("", own), ("_other_caption", other), ("_mean_colour", flat)):
        decibels = [-10 * math.log10(error) for error in errors]
        metrics[f"error{name}"] = replace(mean_metric(errors, seed=records.seed), unit="number")
        metrics[f"psnr{name}"] = replace(mean_metric(decibels, seed=records.seed), unit="number")
    return metrics


def _explained(errors: Sequence[float], flat: Sequence[float], seed: int) -> Metric:
    """1 - sum of errors / sum of the mean colour's errors, resampled over pictures."""
    error_N, flat_N = np.asarray(errors), np.asarray(flat)
    low, high = interval(error_N, flat_N, seed)
    return Metric(1 - float(error_N.sum() / flat_N.sum()), 1 - high, 1 - low, 0.0, len(error_N))


def tiny_data(folder: Path) -> Source:
    """Twelve scenes."""
    return Scenes("test", 12, SceneConfig(size=32, min_objects=2))
