"""The loss of the next token."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.losses import IGNORED
from diptych.objectives import autoregressive
from diptych.objectives.autoregressive import next_token_labels, next_token_loss, token_log_probabilities


def test_labels_are_the_tokens_that_follow_within_each_row() -> None:
    tokens = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0], [3, 0, 0, 0]])
    wanted = [[5, 6, 7, IGNORED], [9, IGNORED, IGNORED, IGNORED], [IGNORED] * 4]
    assert next_token_labels(tokens, torch.tensor([4, 2, 1])).tolist() == wanted


def case() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    head = torch.randn(9, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(9, (3, 4), generator=generator)
    labels[1, 2:] = IGNORED
    return states, head, labels


@pytest.mark.parametrize("at_once", [1 << 24, 27])
def test_sums_and_gradients_are_those_of_the_whole_rectangle(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoregressive, "_LOGITS_AT_ONCE", at_once)
    states, head, labels = case()
    found = next_token_loss(states, labels, lambda rows: rows @ head.T, with_z=True)
    logits = states @ head.T
    wanted = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    z = (logits.logsumexp(-1).square() * (labels != IGNORED)).sum()
    torch.testing.assert_close(found.cross_entropy, wanted)
    torch.testing.assert_close(found.z, z)
    ours = torch.autograd.grad(found.cross_entropy + 0.1 * found.z, [states, head])
    theirs = torch.autograd.grad(wanted + 0.1 * z, [states, head])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_nothing_asked_is_a_loss_of_zero_with_a_gradient() -> None:
    states, head, labels = case()
    found = next_token_loss(states, torch.full_like(labels, IGNORED), lambda rows: rows @ head.T)
    assert found.cross_entropy.item() == 0
    found.cross_entropy.backward()
    assert states.grad is not None and float(states.grad.abs().sum()) == 0


def test_an_even_head_costs_the_logarithm_of_the_vocabulary() -> None:
    states, _, labels = case()
    found = next_token_loss(states, labels, lambda rows: rows.new_zeros(len(rows), 9), with_z=True)
    asked = int((labels != IGNORED).sum())
    assert float(found.cross_entropy) == pytest.approx(asked * math.log(9))
    assert float(found.z) == pytest.approx(asked * math.log(9) ** 2)


def test_probabilities_of_tokens() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])
    found = token_log_probabilities(logits, torch.tensor([[1, IGNORED]]))
    torch.testing.assert_close(found, torch.tensor([[math.log(0.75), 0.0]], dtype=torch.float64))
