"""Llip's loss against loops over every picture, caption, head and token, and what the paper says of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from largest import largest_of_backward
from torch import Tensor
from torch.autograd.gradcheck import gradcheck
from torch.nn import functional as F

from diptych.objectives import llip
from diptych.objectives.contrastive import sigmoid_loss
from diptych.objectives.llip import Mixing, attention, llip_cosines, llip_loss

PICTURES, TOKENS, WIDTH = 5, 3, 4
MIXING = Mixing(temperature=1.3, heads=2)


@pytest.fixture(params=[1, 30, 10**6])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A pair at a time, tiles that do not divide the batch, a single tile."""
    monkeypatch.setattr(llip, "TILE", request.param)
    return int(request.param)


def inputs(captions: int = PICTURES, tokens: int = TOKENS, pictures: int = PICTURES) -> list[Tensor]:
    """Random weights, in float64: keys, values, queries, texts, out, scale, bias."""
    generator = torch.Generator().manual_seed(0)
    shapes = ([pictures, tokens, WIDTH], [pictures, tokens, WIDTH], [captions, WIDTH], [captions, WIDTH])
    made = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in (*shapes, [WIDTH, WIDTH], [], [])]
    return [tensor.requires_grad_() for tensor in made]


def by_loops(inputs: list[Tensor], mixing: Mixing, own: bool = True) -> Tensor:
    """The definition, one number after the other."""
    key, value, query, text, out, scale, bias = inputs
    width = WIDTH // mixing.heads
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(key)):
        for j in range(len(query)):
            mixed = []
            for head in range(mixing.heads):
                part = range(head * width, (head + 1) * width)
                weights = [
                    torch.exp(sum(key[i, k, d] * query[j, d] for d in part) / mixing.temperature)
                    for k in range(key.shape[1])
                ]
                mixed += [sum(w * value[i, k, d] for k, w in enumerate(weights)) / sum(weights) for d in part]
            z = [sum(out[row, column] * mixed[column] for column in range(WIDTH)) for row in range(WIDTH)]
            length = torch.sqrt(sum(number**2 for number in z))
            cosine = sum(number * text[j, d] for d, number in enumerate(z)) / length
            sign = 1 if own and i == j else -1
            total = total + torch.log(1 + torch.exp(-sign * (scale * cosine + bias)))
    return total / len(key)


def assert_same(found: Tensor, expected: Tensor, learned: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    gradients = zip(
        torch.autograd.grad(-1.7 * found, learned), torch.autograd.grad(-1.7 * expected, learned), strict=True
    )
    for ours, plain in gradients:
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("captions", "own"), [(PICTURES, True), (8, True), (3, False), (1, False)])
def test_loss_and_gradients_are_those_of_the_loops(tile: int, captions: int, own: bool) -> None:
    tensors = inputs(captions)
    assert_same(llip_loss(*tensors, MIXING, own), by_loops(tensors, MIXING, own), tensors)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_every_number_of_heads(heads: int) -> None:
    tensors, mixing = inputs(), Mixing(0.7, heads)
    assert_same(llip_loss(*tensors, mixing), by_loops(tensors, mixing), tensors)


def test_gradients_are_those_of_finite_differences() -> None:
    assert gradcheck(lambda *x: llip_loss(*x, MIXING), inputs())


@pytest.mark.parametrize("learned", [[0], [1], [2], [3], [4], [5], [6], [0, 3, 6]])
def test_what_does_not_learn_changes_no_gradient_of_the_others(tile: int, learned: list[int]) -> None:
    tensors = inputs()
    expected = torch.autograd.grad(llip_loss(*tensors, MIXING), tensors)
    for index, tensor in enumerate(tensors):
        tensor.requires_grad_(index in learned)
    found = torch.autograd.grad(llip_loss(*tensors, MIXING), [tensors[index] for index in learned])
    for index, gradient in zip(learned, found, strict=True):
        torch.testing.assert_close(gradient, expected[index], rtol=1e-12, atol=1e-14)


def test_blocks_of_captions_add_up_to_the_whole(tile: int) -> None:
    key, value, query, text, *rest = inputs(6, pictures=6)
    halves = (slice(0, 3), slice(3, 6))
    blocks = [
        llip_loss(key[a], value[a], query[b], text[b], *rest, MIXING, own=a == b) * 3 for a in halves for b in halves
    ]
    torch.testing.assert_close(sum(blocks), llip_loss(key, value, query, text, *rest, MIXING) * 6, rtol=1e-12, atol=0)


def test_one_token_does_not_listen_to_the_caption_and_is_siglip() -> None:
    """Attention over one token is 1: the picture's vector is a linear map of its value, and the loss SigLIP's."""
    key, value, query, text, out, scale, bias = tensors = inputs(tokens=1)
    expected = sigmoid_loss(F.normalize(value[:, 0] @ out.T, dim=-1), text, scale, bias)
    assert_same(llip_loss(*tensors, MIXING), expected, [value, text, out, scale, bias])
    of_key, of_query = torch.autograd.grad(llip_loss(*tensors, MIXING), [key, query])
    assert float(of_key.abs().max()) == 0.0
    assert float(of_query.abs().max()) == 0.0


def cosines(tensors: list[Tensor], mixing: Mixing = MIXING) -> Tensor:
    return llip_cosines(*tensors[:5], mixing)


@pytest.mark.parametrize("index", [2, 3])
def test_another_caption_changes_its_own_column_only(tile: int, index: int) -> None:
    tensors = inputs()
    before = cosines(tensors)
    tensors[index] = tensors[index].detach().clone()
    tensors[index][3] += 1.0
    changed = (cosines(tensors) - before).abs() > 1e-9
    assert bool(changed[:, 3].all())
    assert int(changed.sum()) == PICTURES


def test_an_infinite_temperature_mixes_uniformly() -> None:
    tensors = inputs()
    _, value, _, text, out, *_ = tensors
    uniform = F.normalize(value.mean(1) @ out.T, dim=-1) @ text.T
    torch.testing.assert_close(cosines(tensors, Mixing(1e9, 2)), uniform, rtol=0, atol=1e-8)
    assert float((cosines(tensors) - uniform).detach().abs().max()) > 0.05


def test_attention_is_a_mixture_that_differs_between_captions() -> None:
    key, _, query, *_ = inputs()
    found = attention(key, query, MIXING)
    assert found.shape == (PICTURES, PICTURES, 2, TOKENS)
    torch.testing.assert_close(found.sum(-1), torch.ones(PICTURES, PICTURES, 2, dtype=torch.float64))
    assert float((found[:, 0] - found[:, 1]).detach().abs().max()) > 0.05


def test_the_loss_at_initialisation_is_siglips() -> None:
    """Scale 10, bias -10 and cosines of 0 (section 2.4 of SigLIP's paper): 10 for the yes, next to nothing for a no."""
    tensors = inputs()
    tensors[3] = torch.zeros_like(tensors[3])
    found = llip_loss(*tensors[:5], torch.tensor(10.0), torch.tensor(-10.0), MIXING)
    assert float(found.detach()) == pytest.approx(math.log1p(math.exp(10)) + 4 * math.log1p(math.exp(-10)), rel=1e-6)


@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_features_lose_nothing_but_their_own_rounding(autocast: bool) -> None:
    tensors = [tensor.detach().bfloat16() for tensor in inputs()]
    exact = float(llip_loss(*(tensor.double() for tensor in tensors), MIXING))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = llip_loss(*tensors, MIXING)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(exact, rel=1e-5)


def test_neither_pairs_times_tokens_nor_pairs_times_width_are_ever_held(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = 64
    tensors = inputs(batch, pictures=batch)
    loss: Callable[..., Tensor] = lambda *x: llip_loss(*x, MIXING)  # noqa: E731
    assert largest_of_backward(loss, *tensors) >= batch**2 * WIDTH
    monkeypatch.setattr(llip, "TILE", 512)
    assert largest_of_backward(loss, *tensors) <= 4 * 512
