"""Gaps in documents filled by a model that was trained on moved parts (data/words/causal_masking.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.generator import Prompt
from diptych.core.errors import DiptychError
from diptych.core.sampling import TextSampling
from diptych.core.seeding import hash_to_int
from diptych.data.words.cloze import MASK
from diptych.decoding.modal_grammar import ModalGrammar
from diptych.decoding.write import write
from diptych.models.generative._document_predictor import DocumentPredictor


def is_gap(part: object) -> bool:
    """Whether a part of a prompt is a gap, "[MASK]"."""
    return isinstance(part, str) and part.strip() == MASK


@torch.inference_mode()
def filled(
    predictor: DocumentPredictor[Any], parts: Prompt, start: Sequence[int], sampling: TextSampling, seed: int
) -> list[str]:
    """A text for each gap, in order, told all that stands on both sides.

    Args:
        start: what stands before the document.

    Raises:
        DiptychError: no gap, or more than the model has sentinels.
        TextTooLong: the parts do not fit the model's context.
    """
    layout, words = predictor.module.layout, predictor.processor.tokenizer
    gaps = [place for place, part in enumerate(parts) if is_gap(part)]
    if not 1 <= len(gaps) <= layout.sentinels:
        raise DiptychError(f"{len(gaps)} gaps: this model fills 1 to {layout.sentinels} at a time")
    row = [*start, *_with_sentinels(predictor, parts, gaps)]
    found = []
    for number in range(len(gaps)):
        row.append(layout.sentinel(number))
        predictor.require_room([row], 1)
        only_text = (*predictor.never(), words.end_id, layout.begin)
        grammar = _GapGrammar(layout.grammar([[]], only_text), layout.end_of_span)
        drawn = [hash_to_int("gap", seed, number)] if sampling.temperature else []
        room = [predictor.module.context - len(row)]
        (said,) = write(predictor.decoder([row]), room, sampling, [layout.end_of_span], drawn, grammar)
        found.append(words.decode(said).strip())
        row += [*said, layout.end_of_span]
    return found


def _with_sentinels(predictor: DocumentPredictor[Any], parts: Prompt, gaps: Sequence[int]) -> list[int]:
    """The document with a sentinel in every gap, up to its end."""
    row: list[int] = []
    for place, part in enumerate(parts):
        row += (
            [predictor.module.layout.sentinel(gaps.index(place))] if place in gaps else predictor.tokens_of([[part]])[0]
        )
    return [*row, predictor.processor.tokenizer.end_id]


class _GapGrammar:
    """Words, and the end of the part."""

    def __init__(self, words: ModalGrammar, finish: int) -> None:
        self._words, self._finish = words, finish

    def allowed(self) -> Tensor:
        allowed_NV = self._words.allowed()
        allowed_NV[:, self._finish] = True
        return allowed_NV

    def advance(self, tokens_N: Tensor) -> None:
        self._words.advance(tokens_N)

    def select(self, rows_M: Tensor) -> None:
        self._words.select(rows_M)
