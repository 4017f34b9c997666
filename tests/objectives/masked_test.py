"""Masked prediction against the plain form on all positions."""

import torch
from torch.nn import functional as F

from diptych.objectives.masked import masked_positions, token_loss


def test_heads_on_asked_positions_give_the_whole_loss_and_gradient() -> None:
    torch.manual_seed(0)
    hidden_BTD = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    head = torch.randn(4, 7, dtype=torch.float64)
    labels_BT = torch.full((3, 5), -100)
    labels_BT[0, 1], labels_BT[2, 4], labels_BT[2, 0] = 3, 6, 0
    rows_ND, labels_N = masked_positions(hidden_BTD, labels_BT)
    loss = token_loss(rows_ND @ head, labels_N)
    whole = F.cross_entropy((hidden_BTD @ head).flatten(0, 1), labels_BT.flatten(), reduction="sum")
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(loss, hidden_BTD, retain_graph=True)
    (expected,) = torch.autograd.grad(whole, hidden_BTD)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


def test_nothing_asked_is_zero_with_a_gradient() -> None:
    hidden_BTD = torch.randn(2, 3, 4, requires_grad=True)
    rows_ND, labels_N = masked_positions(hidden_BTD, torch.full((2, 3), -100))
    loss = token_loss(rows_ND @ torch.randn(4, 5), labels_N)
    assert float(loss.detach()) == 0.0
    (gradient,) = torch.autograd.grad(loss, hidden_BTD)
    assert not gradient.any()
