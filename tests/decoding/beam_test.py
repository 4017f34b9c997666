"""Beam search against every text there is."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from bigram import Bigram, random_logits

from diptych.core.sampling import TextSampling
from diptych.decoding.beam import beam_search

SIZE, END, MOST = 4, 3, 4


def best_of_all(logits_VV: torch.Tensor, first: int, penalty: float) -> list[int]:
    """The text of the highest rank among all, ended or cut."""
    chances = logits_VV.log_softmax(-1)
    ranked = []
    for length in range(1, MOST + 1):
        for text in product(range(SIZE), repeat=length):
            if END in text[:-1] or (length < MOST and text[-1] != END):
                continue
            steps = zip([first, *text[:-1]], text, strict=True)
            score = sum(float(chances[before, after]) for before, after in steps)
            ranked.append((score / length**penalty, [token for token in text if token != END]))
    return max(ranked)[1]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_with_enough_beams_it_finds_the_best_text_of_all(penalty: float) -> None:
    sampling = TextSampling(max_tokens=MOST, beams=SIZE**MOST, length_penalty=penalty)
    for seed in range(8):
        logits = random_logits(SIZE, seed)
        found = beam_search(Bigram(logits, [0, 1, 2]), [1000] * 3, sampling, ends=[END])
        assert found == [best_of_all(logits, first, penalty) for first in range(3)]


def test_a_row_does_not_depend_on_the_others() -> None:
    sampling = TextSampling(max_tokens=6, beams=2)
    logits = random_logits(SIZE, 11)
    together = beam_search(Bigram(logits, [0, 1, 2]), [1000] * 3, sampling, ends=[END])
    assert together == [beam_search(Bigram(logits, [one]), [1000], sampling, ends=[END])[0] for one in range(3)]


def test_wider_beams_escape_where_greedy_is_trapped() -> None:
    # Greedy goes 0 -> 1, after which everything is equally likely; 0 -> 2 -> END is likelier as a whole.
    logits = torch.tensor([[0.0, 0.55, 0.45, 0.0], [0.25] * 4, [0.01, 0.01, 0.01, 0.97], [0.25] * 4]).log()
    narrow, wide = (
        beam_search(Bigram(logits, [0]), [1000], TextSampling(max_tokens=4, beams=beams, length_penalty=0.0), ends=[3])[
            0
        ]
        for beams in (1, 2)
    )
    assert narrow[0] == 1 and wide == [2]
