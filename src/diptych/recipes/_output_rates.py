"""Rates on held-out samples that recipes of talking models log: boxes located, outputs of the kind asked for."""

from __future__ import annotations

import torch

from diptych.capabilities.predictor import Predictor
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.source import Source
from diptych.data.derived.task_turns import DESCRIBE, TaskName, asked, phrases_of
from diptych.data.words.box_text import read_boxes, read_named, without_boxes
from diptych.evaluation.runner import evaluate

_LONG = TextSampling(64)
_NAME, _ARTICLES = 3, ("a", "an", "the")
"""A phrase that names has at most so many words, and no article: captions have one, or more words."""


def first_samples(source: Source, most: int) -> list[Sample]:
    """The first samples of a source."""
    return [source[index] for index in range(min(most, len(source)))]


def located(model: Predictor, source: Source, most: int) -> float:
    """The share of phrases of the first samples whose box overlaps the true one by half."""
    (result,) = evaluate(model, ["grounding"], source, limit=most)
    return result.metrics["accuracy"].value


@torch.inference_mode()
def kinds_of_output(model: Predictor, source: Source, most: int) -> dict[str, float]:
    """Of the first pictures, the shares of which each identifier gives its own kind of output.

    "[caption]" and "[grounding]" ask the same, "[refer]" and "[identify]" a phrase and its box.
    """
    samples = [sample for sample in first_samples(source, most) if phrases_of(sample)]
    if not samples:
        return {}
    firsts = [next(iter(phrases_of(sample).items())) for sample in samples]
    questions: dict[TaskName, list[str]] = {
        "caption": [DESCRIBE] * len(samples),
        "grounding": [DESCRIBE] * len(samples),
        "refer": [phrase for phrase, _ in firsts],
        "identify": [box.text() for _, box in firsts],
    }
    found = {}
    for task, whats in questions.items():
        prompts = [[sample.image, asked(task, what)] for sample, what in zip(samples, whats, strict=True)]
        said: list[str] = model.generate_text(prompts, _LONG)
        found[f"kind_{task}"] = sum(kind_of(text) == task for text in said) / len(said)
    return found


def kind_of(text: str) -> TaskName | None:
    """Which task a text is the output of; None where it is none's."""
    boxes, plain = read_boxes(text), without_boxes(text)
    if boxes and not plain:
        return "refer" if len(boxes) == 1 else None
    if boxes:
        return "grounding" if len(read_named(text)) == len(boxes) else None
    words = plain.split()
    if "{" in text or not words:
        return None
    return "identify" if len(words) <= _NAME and words[0] not in _ARTICLES else "caption"
