"""Class names and context as the text tower of a frozen base is given them.

N texts, M context vectors, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.data.words.tokenizer import pad_tokens
from diptych.models.contrastive._two_towers import TwoTowerPredictor


def spoken(name: str) -> str:
    """A class name as it is read: underscores are spaces."""
    return name.replace("_", " ")


def tokens_with_room(base: TwoTowerPredictor, texts: Sequence[str], room: int) -> tuple[Tensor, Tensor]:
    """tokens_NT and lengths_N of texts cut so that `room` more tokens fit the context; padded as the base's are.

    Raises:
        ConfigError: nothing would be left of them.
    """
    processor, settings = base.processor, base.processor.config.text
    if settings.max_length - room <= processor.tokenizer.num_control:
        raise ConfigError(
            f"{room} context vectors leave no room for a class name in a context of {settings.max_length} tokens: "
            f"take fewer"
        )
    ids = processor.tokenizer.encode(texts, settings.max_length - room)
    return pad_tokens(ids, processor.tokenizer.pad_id, settings.max_length if settings.pad_to_max else None)


def context_start(base: TwoTowerPredictor, words: str) -> Tensor | None:
    """The embedded tokens [M, D] of words to start a context from; None for no words."""
    if not words:
        return None
    tokenizer = base.processor.tokenizer
    ids = tokenizer.encode([words], base.processor.config.text.max_length)[0]
    body = ids[tokenizer.num_control - 1 : -1]
    rows: Tensor = base.module.text.embedding(torch.tensor(body, device=base.device)).detach()
    return rows
