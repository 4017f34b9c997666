"""The contrastive losses against loops that say what the papers say, and against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import gradcheck

from diptych.objectives import contrastive
from diptych.objectives.contrastive import info_nce, information_bound, nce_binary, sigmoid_loss

Rows = list[list[float]]
Loss = Callable[[Tensor, Tensor], Tensor]


def embeddings(pairs: int, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two sides in float64, not of unit length: the losses take them as given."""
    generator = torch.Generator().manual_seed(seed)
    image_ND, text_ND = torch.randn(2, pairs, width, dtype=torch.float64, generator=generator)
    return image_ND.requires_grad_(), text_ND.requires_grad_()


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def product(image: list[float], text: list[float]) -> float:
    return sum(a * b for a, b in zip(image, text, strict=True))


def info_nce_by_loops(images: Rows, texts: Rows, scale: float) -> float:
    """Every row picks its partner among all of the other side, in both directions."""
    total = 0.0
    for ours, theirs in ((images, texts), (texts, images)):
        for i, one in enumerate(ours):
            logits = [scale * product(one, other) for other in theirs]
            total -= math.log(math.exp(logits[i]) / sum(math.exp(logit) for logit in logits))
    return total / (2 * len(images))


def sigmoid_by_loops(images: Rows, texts: Rows, scale: float, bias: float) -> float:
    """Every pair is a question of its own; the sum is divided by the number of pictures."""
    total = 0.0
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            sign = 1 if i == j else -1
            total += math.log(1 + math.exp(-sign * (scale * product(image, text) + bias)))
    return total / len(images)


@pytest.mark.parametrize("pairs", [1, 2, 7])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_info_nce_is_the_mean_of_both_directions_by_loops(pairs: int, scale: float) -> None:
    image_ND, text_ND = embeddings(pairs)
    expected = info_nce_by_loops(image_ND.tolist(), text_ND.tolist(), scale)
    assert float(info_nce(image_ND, text_ND, scalar(scale)).detach()) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("pairs", [1, 2, 7])
@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (0.5, -3.0), (4.0, 2.0)])
def test_sigmoid_loss_is_the_sum_over_all_pairs_divided_by_n_by_loops(pairs: int, scale: float, bias: float) -> None:
    image_ND, text_ND = embeddings(pairs)
    expected = sigmoid_by_loops(image_ND.tolist(), text_ND.tolist(), scale, bias)
    found = sigmoid_loss(image_ND, text_ND, scalar(scale), scalar(bias))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-8)  # softplus is linear from 20 on


def test_gradients_are_those_of_finite_differences() -> None:
    image_ND, text_ND = embeddings(4, 3)
    scale, bias = scalar(1.7), scalar(-0.6)
    assert gradcheck(info_nce, (image_ND, text_ND, scale))
    assert gradcheck(sigmoid_loss, (image_ND, text_ND, scale, bias))
    assert gradcheck(nce_binary, (image_ND[:, 0], text_ND[:, 0]))


def test_gradients_are_those_of_the_loops_by_hand() -> None:
    image_ND, text_ND = embeddings(5, 3)
    scale = scalar(1.3)
    found = torch.autograd.grad(info_nce(image_ND, text_ND, scale), [image_ND, text_ND, scale])
    logits = (1.3 * image_ND @ text_ND.T).detach()
    by_hand = (logits.softmax(1) + logits.softmax(0) - 2 * torch.eye(5)) / (2 * 5)
    torch.testing.assert_close(found[0], 1.3 * by_hand @ text_ND.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found[1], 1.3 * by_hand.T @ image_ND.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found[2], (by_hand * logits / 1.3).sum(), rtol=1e-12, atol=1e-14)

    image_ND, text_ND = embeddings(5, 3)
    scale, bias = scalar(1.3), scalar(-0.4)
    found = torch.autograd.grad(sigmoid_loss(image_ND, text_ND, scale, bias), [image_ND, text_ND, bias])
    logits = (1.3 * image_ND @ text_ND.T - 0.4).detach()
    by_hand = (logits.sigmoid() - torch.eye(5)) / 5
    torch.testing.assert_close(found[0], 1.3 * by_hand @ text_ND.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found[2], by_hand.sum(), rtol=1e-12, atol=1e-14)


def test_both_losses_are_symmetric_in_their_sides_and_blind_to_the_order_of_pairs() -> None:
    image_ND, text_ND = embeddings(6)
    scale, bias = scalar(2.0), scalar(-1.0)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    losses: list[Loss] = [lambda a, b: info_nce(a, b, scale), lambda a, b: sigmoid_loss(a, b, scale, bias)]
    for loss in losses:
        value = loss(image_ND, text_ND)
        torch.testing.assert_close(loss(text_ND, image_ND), value, rtol=1e-13, atol=0)
        torch.testing.assert_close(loss(image_ND[order], text_ND[order]), value, rtol=1e-13, atol=0)
        assert float(loss(image_ND, text_ND[order]).detach()) != pytest.approx(float(value.detach()), rel=1e-3)


def test_the_scale_and_the_lengths_of_the_vectors_enter_as_given() -> None:
    image_ND, text_ND = embeddings(6)
    one, three, bias = scalar(1.0), scalar(3.0), scalar(-1.0)
    torch.testing.assert_close(info_nce(image_ND * 3, text_ND, one), info_nce(image_ND, text_ND, three))
    longer = sigmoid_loss(image_ND, text_ND * 3, one, bias)
    torch.testing.assert_close(longer, sigmoid_loss(image_ND, text_ND, three, bias))


@pytest.mark.parametrize("pairs", [1, 2, 64])
def test_embeddings_that_say_nothing_cost_ln_n(pairs: int) -> None:
    same = torch.ones(pairs, 4, dtype=torch.float64) / 2
    assert float(info_nce(same, same, scalar(14.3)).detach()) == pytest.approx(math.log(pairs), abs=1e-12)
    bound = information_bound(info_nce(same, same, scalar(14.3)).detach(), pairs)
    assert float(bound) == pytest.approx(0, abs=1e-6)


def test_perfect_embeddings_reach_the_bound_of_ln_n_and_never_more() -> None:
    image_ND = torch.eye(8, dtype=torch.float64)
    loss = info_nce(image_ND, image_ND, torch.tensor(100.0, dtype=torch.float64))
    assert float(information_bound(loss, 8)) == pytest.approx(math.log(8), abs=1e-6)
    assert float(information_bound(loss, 8)) <= math.log(8) + 1e-6


def test_sigmoid_loss_of_orthogonal_vectors_is_its_closed_form_at_the_published_constants() -> None:
    pairs = 64
    image_ND, text_ND = torch.eye(2 * pairs, dtype=torch.float64).chunk(2)
    found = sigmoid_loss(image_ND, text_ND, torch.tensor(10.0).double(), torch.tensor(-10.0).double())
    expected = math.log1p(math.exp(10)) + (pairs - 1) * math.log1p(math.exp(-10))
    assert float(found) == pytest.approx(expected, rel=1e-12)
    assert float(found) == pytest.approx(10.0 + (pairs - 1) * 4.54e-5, abs=1e-3)  # as the literature rounds it


def test_the_published_constants() -> None:
    assert pytest.approx(14.2857, abs=1e-4) == math.exp(contrastive.CLIP_SCALE_INIT)
    assert pytest.approx(2.6593, abs=1e-4) == contrastive.CLIP_SCALE_INIT
    assert pytest.approx(100.0) == math.exp(contrastive.CLIP_SCALE_MAX)
    assert pytest.approx(10.0) == math.exp(contrastive.SIGLIP_SCALE_INIT)
    assert contrastive.SIGLIP_BIAS_INIT == -10.0


def test_nce_is_the_sum_of_log_losses_of_data_and_noise() -> None:
    positive, noise = [0.3, -2.0], [1.0, 0.0, -4.0]
    sigmoid = [1 / (1 + math.exp(-x)) for x in positive + noise]
    expected = -sum(math.log(p) for p in sigmoid[:2]) - sum(math.log(1 - p) for p in sigmoid[2:])
    assert float(nce_binary(torch.tensor(positive).double(), torch.tensor(noise).double())) == pytest.approx(expected)


def test_sigmoid_loss_is_nce_with_the_other_pairs_as_noise() -> None:
    image_ND, text_ND = embeddings(6)
    logits = 2.0 * image_ND @ text_ND.T - 1.0
    others = logits[~torch.eye(6, dtype=torch.bool)]
    expected = nce_binary(logits.diagonal(), others) / 6
    torch.testing.assert_close(sigmoid_loss(image_ND, text_ND, scalar(2.0), scalar(-1.0)), expected)


def test_large_logits_stay_finite() -> None:
    image_ND = torch.eye(4) * 1e4
    for sign in (1.0, -1.0):
        for loss in (
            info_nce(image_ND, sign * image_ND, torch.tensor(100.0)),
            sigmoid_loss(image_ND, sign * image_ND, torch.tensor(100.0), torch.tensor(0.0)),
        ):
            assert bool(loss.isfinite())


LOSSES: dict[str, Loss] = {
    "info_nce": lambda a, b: info_nce(a, b, torch.tensor(50.0)),
    "sigmoid_loss": lambda a, b: sigmoid_loss(a, b, torch.tensor(50.0), torch.tensor(-10.0)),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_embeddings_lose_nothing_but_their_own_rounding(name: str, autocast: bool) -> None:
    sides = [torch.nn.functional.normalize(side.detach(), dim=-1).bfloat16() for side in embeddings(32, 16)]
    exact = float(LOSSES[name](*(side.double() for side in sides)))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = LOSSES[name](*sides)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_fp32_embeddings_are_not_rounded_by_autocast(name: str) -> None:
    sides = [torch.nn.functional.normalize(side.detach(), dim=-1).float() for side in embeddings(32, 16)]
    exact = float(LOSSES[name](*(side.double() for side in sides)))
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[name](*sides)
    assert float(found) == pytest.approx(exact, rel=1e-5)
