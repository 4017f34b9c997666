"""Whether captions of lone objects name their size, colour and shape; and those of other pictures, by chance.

A measure of the claims alone: `diptych.evaluate` takes it by the name of its module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diptych.capabilities.predictor import Predictor
from diptych.core.records.results import SampleRecord
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.source import Source
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.encoding import batched
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("generate_text",)
DATA = "scenes?objects=1"
ATTRIBUTES = ("size", "colour", "shape")
_BATCH = 32


@dataclass(frozen=True)
class Settings:
    """How long a caption may be.

    Attributes:
        max_tokens: of it.
    """

    max_tokens: int = 16


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """For each attribute the share of pictures of which the caption says it, and `..._other_picture`."""
    samples = list(records.samples(source))
    said: list[str] = []
    for some in batched(samples, _BATCH):
        said += model.generate_text([[sample.image] for sample in some], TextSampling(settings.max_tokens))
    others = Derangement([sample.key for sample in samples], records.seed)
    for index, sample in enumerate(samples):
        other = others.of(index, lambda _: True)
        assert other is not None, "there are two pictures"
        values = _named(sample, said[index], "") | _named(sample, said[other], "_other_picture")
        records.add(SampleRecord(sample.key, output=said[index], values=values))
    names = (f"{attribute}{suffix}" for suffix in ("", "_other_picture") for attribute in ATTRIBUTES)
    return Outcome({name: mean_metric(records.values(name)[0], None, None, records.seed) for name in names})


def _named(sample: Sample, said: str, suffix: str) -> dict[str, float]:
    """Which attributes of the one object a caption says; no word of one is part of a word of another."""
    objects: Sequence[dict[str, str]] = sample.meta["objects"]  # type: ignore[assignment]
    words = said.split()
    return {f"{attribute}{suffix}": float(objects[0][attribute] in words) for attribute in ATTRIBUTES}
