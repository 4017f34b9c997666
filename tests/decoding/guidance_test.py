"""Two streams as one."""

from __future__ import annotations

import math

import pytest
import torch
from bigram import Bigram, random_logits

from diptych.core.errors import ConfigError
from diptych.decoding.guidance import Contrasted, guided

WITH, WITHOUT = random_logits(5, 1), random_logits(5, 2)


def both() -> tuple[Bigram, Bigram]:
    return Bigram(WITH, [0, 1]), Bigram(WITHOUT, [0, 1])


def test_a_weight_of_one_is_the_condition_and_of_zero_none_without_the_other_pass() -> None:
    conditional, unconditional = both()
    assert guided(conditional, unconditional, 1.0) is conditional
    assert guided(conditional, unconditional, 0.0) is unconditional


def test_other_weights_lead_away_from_no_condition() -> None:
    logits = guided(*both(), 3.0).next_logits(None)
    torch.testing.assert_close(logits, WITHOUT[:2] + 3 * (WITH[:2] - WITHOUT[:2]))


def test_both_streams_keep_the_same_rows() -> None:
    decoder = guided(*both(), 2.0)
    decoder.select(torch.tensor([1]))
    assert decoder.next_logits(None).shape == (1, 5)


def test_contrastive_decoding_keeps_what_is_likely_and_scores_by_the_ratio() -> None:
    decoder = Contrasted(*both(), alpha=0.3, k=2)
    found = decoder.next_logits(None)
    p, q = WITH[:2].softmax(-1), WITHOUT[:2].softmax(-1)
    for row in range(2):
        second = sorted(p[row].tolist())[-2]
        for token in range(5):
            wanted = math.log(p[row, token] / q[row, token]) if p[row, token] >= 0.3 * second else -math.inf
            assert float(found[row, token]) == pytest.approx(wanted)


def test_with_one_and_all_kept_it_is_the_argument_of_the_ratio() -> None:
    found = Contrasted(*both(), alpha=1e-9).next_logits(None).argmax(-1)
    assert torch.equal(found, (WITH[:2].log_softmax(-1) - WITHOUT[:2].log_softmax(-1)).argmax(-1))


def test_alpha_is_a_share() -> None:
    with pytest.raises(ConfigError, match=r"alpha 0 must be above 0"):
        Contrasted(*both(), alpha=0)
