"""Captioning one picture: prompts as beginnings of captions, and the rows whose likelihood is asked for.

N rows, T tokens.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import Prompt
from diptych.capabilities.verbs import Verb
from diptych.core.errors import DiptychError, TextTooLong
from diptych.core.losses import IGNORED
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.data.words.cloze import word_ids
from diptych.data.words.tokenizer import Tokenizer, pad_tokens
from diptych.models.generative._prompts import start_of


class Beginning(NamedTuple):
    """A picture, and the tokens that a caption begins with, the start token first."""

    visual: Any
    tokens: list[int]


class Asked(NamedTuple):
    """A text for a picture.

    Attributes:
        visual: None where nothing is shown.
        tokens: prompt, text and end.
        given: how many of them are the prompt's: given, and not asked about.
    """

    visual: Any | None
    tokens: list[int]
    given: int


def beginning_of(prompt: Prompt, tokenizer: Tokenizer) -> Beginning:
    """A prompt's one picture, which stands first, and the text after it.

    Raises:
        DiptychError: it is anything else.
    """
    visuals = [part for part in prompt if not isinstance(part, str)]
    if len(visuals) != 1 or isinstance(prompt[0], str):
        raise DiptychError(
            f"this model writes about one picture: give it the picture, then the beginning of the text, if any; this "
            f"prompt has {len(visuals)} pictures and {len(prompt) - len(visuals)} texts"
        )
    text = " ".join(str(part).strip() for part in prompt[1:])
    return Beginning(visuals[0], [start_of(tokenizer), *word_ids(tokenizer, text)])


def likelihood_rows(
    processor: ImageTextProcessor, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
) -> list[Asked]:
    """A row for each text.

    Raises:
        DiptychError: not one prompt and one text a visual.
        TextTooLong: a prompt with its text does not fit.
    """
    same_length(visuals, texts, Verb.TEXT_LIKELIHOOD)
    same_length(visuals, prompts, Verb.TEXT_LIKELIHOOD)
    tokenizer, most = processor.tokenizer, processor.config.text.max_length
    rows = []
    for visual, prompt, text in zip(visuals, prompts, texts, strict=True):
        given = [start_of(tokenizer), *word_ids(tokenizer, prompt)]
        tokens = [*given, *word_ids(tokenizer, text), tokenizer.end_id]
        if len(tokens) > most:
            raise TextTooLong(
                f"{reprlib.repr(prompt + text)} has {len(tokens)} tokens, of which {most} fit: shorten it"
            )
        rows.append(Asked(visual, tokens, len(given)))
    return rows


def joined(rows: Sequence[Asked], tokenizer: Tokenizer) -> tuple[Tensor, Tensor, Tensor]:
    """Padded tokens [N, T], lengths [N], and what follows each place [N, T]: `IGNORED` where it is given or padding."""
    tokens_NT, lengths_N = pad_tokens([row.tokens for row in rows], tokenizer.pad_id)
    labels_NT = torch.full_like(tokens_NT, IGNORED)
    for place, row in enumerate(rows):
        labels_NT[place, row.given - 1 : len(row.tokens) - 1] = torch.tensor(row.tokens[row.given :])
    return tokens_NT, lengths_N, labels_NT
