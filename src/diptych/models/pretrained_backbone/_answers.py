"""Answers of models that write: what they say to a question, or the likeliest of given choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import Prompt, TextGenerator, TextLikelihood
from diptych.capabilities.verbs import Verb
from diptych.core.errors import DataError, DiptychError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.sampling import TextSampling

SHORT = TextSampling(16)
"""An answer."""


class Writer(TextGenerator, TextLikelihood, Protocol):
    """Writes, and knows how likely a text is."""


def answers(
    model: Writer, visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None
) -> list[str]:
    """What the model says to each question; of given choices the likeliest.

    Raises:
        DiptychError: not one question, or one row of choices, a visual.
    """
    same_length(visuals, questions, Verb.ANSWER)
    if choices is None:
        return model.generate_text([parts_of(*pair) for pair in zip(visuals, questions, strict=True)], SHORT)
    same_length(visuals, choices, Verb.ANSWER)
    found = []
    for visual, asked, options in zip(visuals, questions, choices, strict=True):
        chances = model.text_likelihood([visual] * len(options), [asked] * len(options), list(options))
        found.append(options[int(chances.log_N.argmax())])
    return found


@contextmanager
def reading_a_prompt() -> Iterator[None]:
    """What is wrong with a sample in training is said of a caller's prompt instead.

    Raises:
        TextTooLong: it does not fit.
        DiptychError: it cannot be read for another reason.
    """
    try:
        yield
    except BadSample as bad:
        kind = TextTooLong if bad.reason == "conversation too long" else DiptychError
        raise kind(f"this prompt cannot be read: {bad.detail or bad.reason}") from bad
    except DataError as error:
        raise DiptychError(f"this prompt cannot be read: {error}") from error


def parts_of(visual: Any | None, prompt: str) -> Prompt:
    """A picture, if one is shown, and what is said after it, if anything is."""
    shown = [] if visual is None else [Path(visual) if isinstance(visual, str) else visual]
    return [*shown, prompt] if prompt else shown
