"""Text to image on scenes, by questions: TIFA and DSG, with questions made of what the prompt says.

TIFA is the share of right answers; DSG counts an answer only where the questions that it rests on are right, so it is
never higher (evaluation/generation/question_graphs.py). The scenes' own recogniser answers, or a model with `answer`
that a setting names. Chance is what the pictures of other prompts get; an answerer that says yes to everything has a
high one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.capabilities.generator import OWN_WAY
from diptych.capabilities.load import load
from diptych.capabilities.predictor import Answerer, Predictor
from diptych.capabilities.verbs import Verb, missing
from diptych.core.errors import ConfigError, DataError, MissingVerb
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sampling import ImageSampling
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.generation.generated_pictures import painted
from diptych.evaluation.generation.question_graphs import (
    KINDS,
    Graded,
    Question,
    graded,
    questions_of,
    recognised_answer,
)
from diptych.evaluation.generation.scene_agreement import objects_seen, some_others
from diptych.evaluation.generation.scene_prompts import Caption, ScenePrompt, scene_prompts
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("generate_image",)
DATA = "scenes?min_objects=2&count=200"

Answers = Callable[[Image, Sequence[Sequence[Question]]], list[list[str]]]
"""A picture and several prompts' questions -> the answers to each."""


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        caption: which caption of a scene is the prompt: "detailed", "related", "listed" or "placed".
        sampling: how pictures are drawn.
        answerer: a model with `answer`, as `diptych.load` takes it; "" for the scenes' recogniser.
        others: of how many other prompts the questions are asked about each picture, for chance.
    """

    caption: Caption = "detailed"
    sampling: ImageSampling = OWN_WAY
    answerer: str = ""
    others: int = 3

    def __post_init__(self) -> None:
        if self.others < 1:
            raise ConfigError(f"question_graph.others {self.others}: chance needs one other prompt or more")


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks every picture the questions of its prompt, and those of other prompts.

    Raises:
        DataError: fewer than two scenes.
        MissingVerb: the answerer has no `answer`.
    """
    prompts = scene_prompts(records.samples(source), settings.caption, records)
    if len(prompts) < 2:
        raise DataError(f"{source.name} has {len(prompts)} prompt(s) of scenes: question_graph needs two or more")
    answers = _answers(settings.answerer)
    around = Derangement([prompt.key for prompt in prompts], records.seed)
    place = {prompt.key: index for index, prompt in enumerate(prompts)}
    new = [prompt for prompt in prompts if prompt.key not in records.done]
    for prompt, image in painted(model, new, settings.sampling, records):
        others = [prompts[index] for index in some_others(around, place[prompt.key], settings.others)]
        records.add(_asked(prompt, others, image, answers))
    return Outcome(_metrics(records), {"notes": [f"Answers: {settings.answerer or 'the recogniser of the scenes'}."]})


def _asked(prompt: ScenePrompt, others: Sequence[ScenePrompt], image: Image, answers: Answers) -> SampleRecord:
    """The record of one picture: its own questions, and for chance those of others."""
    asked = [questions_of(one) for one in (prompt, *others)]
    own, *by_others = answers(image, asked)
    values = _values(graded(asked[0], own))
    for name in values:
        rows = [_values(graded(some, given)) for some, given in zip(asked[1:], by_others, strict=True)]
        known = [row[name] for row in rows if name in row]
        if known:
            values = values | {f"chance_{name}": sum(known) / len(known)}
    output = {question.text: answer for question, answer in zip(asked[0], own, strict=True)}
    return SampleRecord(prompt.key, prompt=prompt.text, output=output, values=values)


def _values(found: Graded) -> dict[str, float]:
    return {"tifa": found.tifa, "dsg": found.dsg} | found.right


def _metrics(records: Records) -> dict[str, Metric]:
    metrics = {}
    for name in ("dsg", "tifa", *KINDS):
        values, _ = records.values(name)
        others, _ = records.values(f"chance_{name}")
        if values:
            chance = sum(others) / len(others) if others else None
            metrics[name] = mean_metric(values, None, chance, records.seed)
    return metrics


def _answers(reference: str) -> Answers:
    """By the recogniser, or by a model."""
    if not reference:
        return _recognised
    model = load(reference)
    if lacking := missing(model.VERBS, [Verb.ANSWER], reads_text=model.READS_TEXT, sentences=True):
        raise MissingVerb(model.name, lacking[0], model.verbs)
    return lambda image, asked: _answered(model, image, asked)


def _recognised(image: Image, asked: Sequence[Sequence[Question]]) -> list[list[str]]:
    seen = objects_seen(image)
    return [[recognised_answer(question, seen) for question in some] for some in asked]


def _answered(model: Answerer, image: Image, asked: Sequence[Sequence[Question]]) -> list[list[str]]:
    """All questions about one picture in one call."""
    flat = [question for some in asked for question in some]
    choices = [list(question.choices) for question in flat]
    found = iter(model.answer([image] * len(flat), [question.text for question in flat], choices))
    return [[next(found) for _ in some] for some in asked]


def tiny_data(folder: Path) -> Source:
    """Six scenes."""
    return Scenes("test", 6, SceneConfig(size=32, min_objects=2))
