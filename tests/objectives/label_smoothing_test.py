"""InfoNCE with smoothed labels against torch's cross entropy in both directions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.objectives.contrastive import info_nce
from diptych.objectives.label_smoothing import smoothed_info_nce

SCALE = torch.tensor(10.0, dtype=torch.float64)


def pairs(count: int = 6, width: int = 4) -> tuple[Tensor, Tensor]:
    drawn = torch.randn(2, count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image, text = F.normalize(drawn, dim=-1)
    return image.requires_grad_(), text.requires_grad_()


def by_torch(image: Tensor, text: Tensor, smoothing: float) -> Tensor:
    logits, target = SCALE * image @ text.T, torch.arange(len(image))
    sides = [F.cross_entropy(one, target, label_smoothing=smoothing) for one in (logits, logits.T)]
    return (sides[0] + sides[1]) / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7, 1.0])
def test_loss_and_gradients_are_those_of_cross_entropy_with_smoothed_labels(smoothing: float) -> None:
    image, text = pairs()
    loss = smoothed_info_nce(image, text, SCALE, smoothing)
    found = torch.autograd.grad(loss, (image, text))
    wanted = by_torch(image, text, smoothing)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(found, torch.autograd.grad(wanted, (image, text)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_without_smoothing_it_is_info_nce_to_the_bit() -> None:
    image, text = pairs()
    assert torch.equal(smoothed_info_nce(image, text, SCALE, 0.0), info_nce(image, text, SCALE))
    assert not torch.equal(smoothed_info_nce(image, text, SCALE, 0.1), info_nce(image, text, SCALE))


def test_embeddings_that_say_nothing_give_ln_n_however_smooth() -> None:
    same = torch.ones(5, 3, dtype=torch.float64) / 3**0.5
    assert float(smoothed_info_nce(same, same, SCALE, 0.3)) == pytest.approx(math.log(5), rel=1e-12)


def test_products_are_in_fp32_under_autocast() -> None:
    image, text = (one.detach().float() for one in pairs())
    plain = smoothed_info_nce(image, text, SCALE.float(), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(smoothed_info_nce(image, text, SCALE.float(), 0.1), plain)
    assert smoothed_info_nce(image.bfloat16(), text.bfloat16(), SCALE.float(), 0.1).dtype == torch.float32
