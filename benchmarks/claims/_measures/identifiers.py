"""Whether MiniGPT-v2's identifier decides the kind of what is said: the same words and picture behind two of them.

Of every picture four things are asked: "[caption]" and "[grounding]" ask the same words, "[refer]" a phrase,
"[identify]" a box. `own` is the share of outputs of the kind that the identifier names; `other` the share that are of
that kind all the same when the same words stand behind the other identifier of the two.

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
from diptych.data.derived.task_turns import DESCRIBE, TaskName, asked, phrases_of
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import batched
from diptych.evaluation.statistics import mean_metric
from diptych.recipes._output_rates import kind_of

REQUIRES = ("generate_text", "locate")
DATA = "scenes"
OTHER: dict[TaskName, TaskName] = {
    "caption": "grounding", "grounding": "caption", "refer": "identify", "identify": "refer",
}  # fmt: skip
_BATCH = 8


@dataclass(frozen=True)
class Settings:
    """How long what is said may be.

    Attributes:
        max_tokens: of it.
    """

    max_tokens: int = 64


@dataclass(frozen=True)
class _Asked:
    """One thing that is asked of a picture, behind the identifier of its kind."""

    sample: Sample
    task: TaskName
    words: str


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """`own` and `other`, over all and by task."""
    things = [one for sample in records.samples(source) for one in _things(sample)]
    for some in batched(things, _BATCH):
        own, other = (_said(model, some, swapped, settings) for swapped in (False, True))
        for one, mine, theirs in zip(some, own, other, strict=True):
            values = {"own": float(kind_of(mine) == one.task), "other": float(kind_of(theirs) == one.task)}
            values |= {f"{name}_{one.task}": value for name, value in values.items()}
            key, said = f"{one.sample.key}#{one.task}", {"own": mine, "other": theirs}
            records.add(SampleRecord(key, prompt=one.words, output=said, values=values))
    names = ("own", "other", *(f"{name}_{task}" for name in ("own", "other") for task in OTHER))
    return Outcome({name: mean_metric(records.values(name)[0], None, None, records.seed) for name in names})


def _things(sample: Sample) -> list[_Asked]:
    """What is asked of a picture; nothing of one without a phrase that it has once."""
    phrases = phrases_of(sample)
    if not phrases:
        return []
    phrase, box = next(iter(phrases.items()))
    words: dict[TaskName, str] = {
        "caption": DESCRIBE, "grounding": DESCRIBE, "refer": phrase, "identify": box.text(),
    }  # fmt: skip
    return [_Asked(sample, task, what) for task, what in words.items()]


def _said(model: Predictor, some: Sequence[_Asked], swapped: bool, settings: Settings) -> list[str]:
    """Behind the own identifier, or the other of the two."""
    tasks = [OTHER[one.task] if swapped else one.task for one in some]
    prompts = [[one.sample.image, asked(task, one.words)] for one, task in zip(some, tasks, strict=True)]
    found: list[str] = model.generate_text(prompts, TextSampling(settings.max_tokens))
    return found
