"""Texts about each picture: its caption, or the answer to one question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError
from diptych.core.sampling import TextSampling
from diptych.core.seeding import hash_to_int
from diptych.core.visual import Image
from diptych.serving.job import Ask, Row
from diptych.serving.refusal import require_verb


def captioner(model: Predictor, prompt: str = "", sampling: TextSampling | None = None, seed: int = 0) -> Ask:
    """Asks for a caption of each picture.

    Args:
        prompt: words behind the picture, for models that want to be asked; "" for the picture alone.
        seed: of the draws, where the sampling draws; a picture's own follow from it and its key.

    Raises:
        MissingVerb: the model writes no texts.
    """
    require_verb(model, Verb.GENERATE_TEXT)
    writer: Any = model
    behind = [prompt] if prompt else []

    def ask(keys: Sequence[str], images: Sequence[Image]) -> list[Row]:
        seeds = [hash_to_int("caption", seed, key) for key in keys]
        texts = writer.generate_text([[image, *behind] for image in images], sampling or TextSampling(), seeds)
        return [{"caption": " ".join(text.split())} for text in texts]

    return ask


def answerer(model: Predictor, question: str, choices: Sequence[str] = ()) -> Ask:
    """Asks one question about each picture.

    Args:
        choices: the answers allowed; () for the model's own words.

    Raises:
        MissingVerb: the model answers no questions.
        ConfigError: no question, a single choice, or no choices for a model that can only choose.
    """
    require_verb(model, Verb.ANSWER)
    if not question.strip():
        raise ConfigError("the question is empty")
    if len(choices) == 1 or len(set(choices)) < len(choices):
        raise ConfigError(f"choices {', '.join(choices)}: give two or more, each once")
    how = model.how(Verb.ANSWER)
    if not choices and how != "native":
        raise ConfigError(f"{model.name} answers by the {how}: name the answers there may be, --choices yes no")
    talker: Any = model

    def ask(keys: Sequence[str], images: Sequence[Image]) -> list[Row]:
        allowed = [list(choices)] * len(images) if choices else None
        return [{"answer": text} for text in talker.answer(list(images), [question] * len(images), allowed)]

    return ask
