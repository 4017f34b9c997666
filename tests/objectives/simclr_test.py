"""NT-Xent against a sum over pairs written out, closed forms, finite differences and SLIP's own form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.objectives import strips
from diptych.objectives.simclr import nt_xent


def views(pictures: int, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    drawn = torch.randn(2, pictures, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    first, second = F.normalize(drawn, dim=-1)
    return first, second


def brute_force(first: Tensor, second: Tensor, temperature: float) -> float:
    """Equation 1 of the SimCLR paper, one exponential at a time."""
    everything, pictures = [*first, *second], len(first)
    total = 0.0
    for i, view in enumerate(everything):
        other = (i + pictures) % (2 * pictures)
        similar = [math.exp(float(view @ another) / temperature) for another in everything]
        total -= math.log(similar[other] / (sum(similar) - similar[i]))
    return total / (2 * pictures)


def as_slip_computes_it(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Two cross entropies: a draw's views against the other draw's and, themselves removed, against their own."""
    target, itself = torch.arange(len(first)), torch.eye(len(first), dtype=first.dtype) * 1e9
    losses = []
    for one, other in ((first, second), (second, first)):
        logits = torch.cat([one @ other.T / temperature, one @ one.T / temperature - itself], dim=1)
        losses.append(F.cross_entropy(logits, target))
    return (losses[0] + losses[1]) / 2


@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize("pictures", [2, 7])
def test_it_is_the_papers_and_slips(pictures: int, temperature: float) -> None:
    first, second = views(pictures)
    found = nt_xent(first, second, temperature)
    assert float(found) == pytest.approx(brute_force(first, second, temperature), rel=1e-12)
    torch.testing.assert_close(found, as_slip_computes_it(first, second, temperature), rtol=1e-12, atol=1e-12)


def test_the_default_temperature_is_slips() -> None:
    first, second = views(4)
    assert float(nt_xent(first, second)) == float(nt_xent(first, second, 0.1)) != float(nt_xent(first, second, 0.2))


@pytest.mark.parametrize("pictures", [2, 64])
def test_embeddings_that_say_nothing_give_ln_of_the_other_views(pictures: int) -> None:
    same = torch.ones(pictures, 3, dtype=torch.float64) / 3**0.5
    assert float(nt_xent(same, same)) == pytest.approx(math.log(2 * pictures - 1), rel=1e-12)


def test_a_single_picture_has_nothing_to_be_told_from() -> None:
    first, second = views(1)
    first.requires_grad_()
    loss = nt_xent(first, second)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12) and first.grad is not None
    assert bool(first.grad.isfinite().all())


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for pairs in (10, 30, 1000):  # strips of one row, of three, and all of them
        monkeypatch.setattr(strips, "STRIP", pairs)
        first, second = (one.requires_grad_() for one in views(5))
        loss = nt_xent(first, second)
        loss.backward()
        found.append((loss.detach(), first.grad, second.grad))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP", 24)
    first, second = (one.requires_grad_() for one in views(4, width=3))
    assert torch.autograd.gradcheck(nt_xent, (first, second))


def test_the_order_of_pictures_and_of_views_does_not_matter() -> None:
    first, second = views(6)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(nt_xent(first[order], second[order]), nt_xent(first, second))
    torch.testing.assert_close(nt_xent(second, first), nt_xent(first, second))
    assert float(nt_xent(first, second[order])) != pytest.approx(float(nt_xent(first, second)))


def test_views_that_agree_cost_less() -> None:
    first, second = views(16, width=32)
    assert float(nt_xent(first, first)) < 0.5 * float(nt_xent(first, second))


def test_products_are_in_fp32_under_autocast() -> None:
    first, second = (one.float() for one in views(8))
    plain = nt_xent(first, second)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(first, second), plain)
    assert nt_xent(first.bfloat16(), second.bfloat16()).dtype == torch.float32
