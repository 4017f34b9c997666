"""Pictures in documents are whole, or not there."""

from __future__ import annotations

import torch
from bigram import Bigram

from diptych.core.sampling import TextSampling
from diptych.decoding.modal_grammar import ModalGrammar, PictureTokens
from diptych.decoding.write import write

TOKENS = PictureTokens(begin=6, end=7, codes=(2, 6), length=3)
"""0 and 1 are words, 2 to 5 codes, 8 padding, 9 ends a document."""


def grammatical(row: list[int]) -> bool:
    """Whether every picture has its three codes and its end, and there are no codes elsewhere."""
    text = "".join("w" if token < 2 else "c" if token < 6 else {6: "b", 7: "e"}[token] for token in row)
    while "bccce" in text:
        text = text.replace("bccce", "")
    return set(text) <= {"w"}


def test_every_document_drawn_from_noise_is_grammatical() -> None:
    logits = torch.randn(10, 10, generator=torch.Generator().manual_seed(0))
    logits[:, 6] += 2  # pictures are frequent
    prompts = [[0], [1, 6], [6, 2, 3], [6, 2, 3, 4]] * 8
    grammar = ModalGrammar(TOKENS, 10, prompts, forbidden=[8])
    decoder = Bigram(logits, [prompt[-1] for prompt in prompts])
    sampling = TextSampling(max_tokens=400, temperature=1.0)
    found = write(decoder, [1000] * len(prompts), sampling, ends=[9], seeds=range(len(prompts)), grammar=grammar)
    assert sum(6 in row for row in found) > 10
    for prompt, row in zip(prompts, found, strict=True):
        assert len(row) < 400 and grammatical([*prompt, *row])


def test_what_may_come_next() -> None:
    grammar = ModalGrammar(TOKENS, 10, [[0], [6, 2], [6, 2, 3, 4]], forbidden=[8])
    allowed = [row.nonzero()[:, 0].tolist() for row in grammar.allowed()]
    assert allowed == [[0, 1, 6, 9], [2, 3, 4, 5], [7]]
    grammar.advance(torch.tensor([6, 2, 7]))
    grammar.select(torch.tensor([2, 0]))
    assert [row.nonzero()[:, 0].tolist() for row in grammar.allowed()] == [[0, 1, 6, 9], [2, 3, 4, 5]]
