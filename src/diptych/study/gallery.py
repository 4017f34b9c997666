"""The same pictures and prompts put to every model, by the verbs that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable, Verb
from diptych.core.errors import DiptychError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.derived.subset import hold_out
from diptych.data.open import open_source
from diptych.data.pixels.thumbnail import png
from diptych.evaluation.captions.scene_truth import PRECISION, is_scene, truth_of
from diptych.evaluation.masked.hidden_words import questions

ASKED = 8
"""Pictures."""

Answer = dict[str, Any]


def answers(model: Predictor, data: str) -> list[Answer]:
    """What a model says of the same held-out samples: {"key", "task", "asked", "said", "truth", "right", "png"}.

    "right" is None where nothing can say so; "png" a `data:` address, of a picture that the model made.
    """
    source = open_source(data, "test")
    samples = [sample for sample in _some(source) if sample.visuals and sample.texts][:ASKED]
    tasks: dict[Verb, Callable[[Any, Sequence[Sample]], list[Answer]]] = {
        Verb.SCORE: _captions_chosen,
        Verb.GENERATE_TEXT: _captions_written,
        Verb.ANSWER: _questions_answered,
        Verb.FILL_TEXT: _words_filled,
        Verb.GENERATE_IMAGE: _pictures_made,
    }
    found: list[Answer] = []
    for verb, task in tasks.items():
        if samples and verb in model.verbs:
            try:
                found += task(model, samples)
            except DiptychError as error:
                found.append(_answer("", str(verb), "", f"could not be asked: {error}", ""))
    return found


def _some(source: Source) -> Iterator[Sample]:
    """The first samples by a hash of their keys, of few all; those that cannot be read are left out."""
    most = 4 * ASKED
    some = hold_out(source, most, "study")[1] if len(source) > most else source
    for index in range(len(some)):
        try:
            yield some[index]
        except BadSample:
            continue


def _answer(key: str, task: str, asked: str, said: str, truth: str, right: bool | None = None, png: str = "") -> Answer:
    return {"key": key, "task": task, "asked": asked, "said": said, "truth": truth, "right": right, "png": png}


def _captions_chosen(model: Any, samples: Sequence[Sample]) -> list[Answer]:
    if model.comparable_over is Comparable.VISUALS:
        return []
    texts = [sample.texts[0] for sample in samples]
    best = model.score([sample.image for sample in samples], texts).argmax(1).tolist()
    return [
        _answer(one.key, "which caption", f"one of {len(texts)}", texts[place], one.texts[0], texts[place] in one.texts)
        for one, place in zip(samples, best, strict=True)
    ]


def _captions_written(model: Any, samples: Sequence[Sample]) -> list[Answer]:
    said = model.generate_text([[sample.image] for sample in samples])
    return [
        _answer(one.key, "caption", "", text, one.texts[0], _true_of(text, one))
        for one, text in zip(samples, said, strict=True)
    ]


def _true_of(caption: str, sample: Sample) -> bool | None:
    """Whether all that a caption names is there, of a scene."""
    return truth_of(caption, sample.meta)[PRECISION] == 1.0 if is_scene(sample.meta) else None


def _questions_answered(model: Any, samples: Sequence[Sample]) -> list[Answer]:
    asked = [sample for sample in samples if len(sample.turns) > 1]
    choices = sorted({sample.turns[1].text for sample in asked})
    if not asked:
        return []
    free = Verb.GENERATE_TEXT in model.verbs
    said = model.answer(
        [one.image for one in asked], [one.turns[0].text for one in asked], None if free else [choices] * len(asked)
    )
    return [
        _answer(one.key, "question", one.turns[0].text, text, one.turns[1].text, _same(text, one.turns[1].text))
        for one, text in zip(asked, said, strict=True)
    ]


def _same(text: str, truth: str) -> bool:
    return text.lower().strip(" .") == truth.lower().strip(" .")


def _words_filled(model: Any, samples: Sequence[Sample]) -> list[Answer]:
    asked, _ = questions(list(samples), 100, 0, 1)
    found = []
    for one in asked:
        sample = samples[one.sample]
        choices = [one.choices] if one.choices else None
        (words,) = model.fill_text([sample.image], [one.text], choices)
        found.append(_answer(one.picture, "hidden word", one.text, words[0], one.truth, _same(words[0], one.truth)))
    return found


def _pictures_made(model: Any, samples: Sequence[Sample]) -> list[Answer]:
    prompts = [sample.texts[0] for sample in samples]
    made = model.generate_image(prompts, 0)
    return [
        _answer(one.key, "picture", prompt, "", "", None, png(image))
        for one, prompt, image in zip(samples, prompts, made, strict=True)
    ]
