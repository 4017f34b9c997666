"""Composition on scenes: a true caption against hard negatives, by kind of change.

Swapped attributes, relations and objects, replaced attributes and objects, shuffled words: each negative is false of
the picture (a shuffle is ungrammatical). Chance is 1/2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diptych.capabilities.predictor import Predictor
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.caption_choice import Choice, choice_metrics, decide

REQUIRES = ("score",)
SENTENCES = True
DATA = "scenes?min_objects=2"

KINDS = ("swap_attribute", "swap_relation", "swap_object", "replace_attribute", "replace_object", "order")


@dataclass(frozen=True)
class Settings:
    """Nothing to choose."""


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Scores true against false, strictly."""
    decide(model, _choices(source, records), records)
    return Outcome(choice_metrics(records, KINDS, dict.fromkeys(KINDS, 1 / 2)))


def _choices(source: Source, records: Records) -> Iterator[Choice]:
    for sample in records.samples(source):
        for kind, pair in sample.meta.get("negatives", {}).items():
            yield Choice(f"{sample.key}#{kind}", sample.image, pair["true"], (pair["false"],), kind)


def tiny_data(folder: Path) -> Source:
    """Six scenes."""
    return Scenes("test", 6, SceneConfig(size=32, min_objects=2))
