"""The losses in strips against their plain form: values and all gradients in float64, wherever the strips are cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from largest import largest_of_backward
from plain import plain_info_nce, plain_sigmoid
from torch import Tensor
from torch.autograd.gradcheck import gradcheck

from diptych.objectives import strips
from diptych.objectives.contrastive import info_nce, sigmoid_loss

WIDTH = 5
CUTS = [1, 20, 77, 10**6]
"""Pairs in a strip: a row at a time, some rows, strips that do not divide the batch, one strip."""


@pytest.fixture(params=CUTS)
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(strips, "STRIP", request.param)
    monkeypatch.setattr(strips, "_FEWEST_ROWS", 1)
    return int(request.param)


def leaves(*shapes: Sequence[int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(list(shape), dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def assert_same(found: Callable[..., Tensor], expected: Callable[..., Tensor], tensors: Sequence[Tensor]) -> None:
    """Value and gradients, times a number, so that what arrives in the backward pass counts."""
    ours, plain = found(*tensors), expected(*tensors)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    learned = [tensor for tensor in tensors if tensor.requires_grad]
    pairs = zip(torch.autograd.grad(-1.7 * ours, learned), torch.autograd.grad(-1.7 * plain, learned), strict=True)
    for of_ours, of_plain in pairs:
        torch.testing.assert_close(of_ours, of_plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pairs", [1, 2, 13, 40])
def test_info_nce_is_the_plain_one(cut: int, pairs: int) -> None:
    assert_same(info_nce, plain_info_nce, leaves([pairs, WIDTH], [pairs, WIDTH], []))


@pytest.mark.parametrize("pairs", [1, 2, 13, 40])
def test_sigmoid_loss_is_the_plain_one(cut: int, pairs: int) -> None:
    assert_same(sigmoid_loss, plain_sigmoid, leaves([pairs, WIDTH], [pairs, WIDTH], [], []))


@pytest.mark.parametrize("loss", ["info_nce", "sigmoid_loss"])
@pytest.mark.parametrize("negatives", [1, 7, 30])
def test_negatives_that_are_not_wanted_might_as_well_not_be_there(cut: int, loss: str, negatives: int) -> None:
    image_ND, text_ND, negative_MD, scale, bias = leaves([13, WIDTH], [13, WIDTH], [negatives, WIDTH], [], [])
    wanted_M = torch.arange(negatives) % 3 != 1
    if loss == "info_nce":
        assert_same(
            lambda a, b, s, n: info_nce(a, b, s, n, wanted_M),
            lambda a, b, s, n: plain_info_nce(a, b, s, n[wanted_M]),
            [image_ND, text_ND, scale, negative_MD],
        )
        assert_same(info_nce, plain_info_nce, [image_ND, text_ND, scale, negative_MD])
    else:
        assert_same(
            lambda a, b, s, x, n: sigmoid_loss(a, b, s, x, True, n, wanted_M),
            lambda a, b, s, x, n: plain_sigmoid(a, b, s, x, True, n[wanted_M]),
            [image_ND, text_ND, scale, bias, negative_MD],
        )


def test_negatives_that_nobody_wants_leave_the_loss_as_it_is() -> None:
    image_ND, text_ND, negative_MD, scale, bias = leaves([6, WIDTH], [6, WIDTH], [6, WIDTH], [], [])
    none = torch.zeros(6, dtype=torch.bool)
    assert torch.equal(info_nce(image_ND, text_ND, scale, negative_MD, none), info_nce(image_ND, text_ND, scale))
    with_them = sigmoid_loss(image_ND, text_ND, scale, bias, True, negative_MD, none)
    assert torch.equal(with_them, sigmoid_loss(image_ND, text_ND, scale, bias))


@pytest.mark.parametrize("others", [1, 9, 30])
def test_pairs_of_different_samples_are_all_negatives(cut: int, others: int) -> None:
    tensors = leaves([13, WIDTH], [others, WIDTH], [], [])
    assert_same(
        lambda a, b, s, x: sigmoid_loss(a, b, s, x, False), lambda a, b, s, x: plain_sigmoid(a, b, s, x, False), tensors
    )  # fmt: skip


def test_blocks_of_texts_add_up_to_the_whole(cut: int) -> None:
    image_ND, text_ND, scale, bias = leaves([12, WIDTH], [12, WIDTH], [], [])
    blocks = [
        sigmoid_loss(image_ND[rows], text_ND[columns], scale, bias, own=rows == columns) * 4
        for rows in (slice(0, 4), slice(4, 8), slice(8, 12))
        for columns in (slice(0, 4), slice(4, 8), slice(8, 12))
    ]
    torch.testing.assert_close(sum(blocks), sigmoid_loss(image_ND, text_ND, scale, bias) * 12, rtol=1e-12, atol=0)


@pytest.mark.parametrize("learned", [[0], [1], [2], [3], [0, 2], [1, 3], [0, 1, 2, 3]])
def test_a_side_that_does_not_learn_changes_no_gradient_of_the_others(learned: list[int]) -> None:
    tensors = leaves([9, WIDTH], [9, WIDTH], [], [])
    for index, tensor in enumerate(tensors):
        tensor.requires_grad_(index in learned)
    assert_same(sigmoid_loss, plain_sigmoid, tensors)
    if learned != [3]:
        assert_same(info_nce, plain_info_nce, tensors[:3])


def test_gradients_are_those_of_finite_differences(cut: int) -> None:
    image_ND, text_ND, negative_MD, scale, bias = leaves([6, 3], [6, 3], [4, 3], [], [])
    assert gradcheck(info_nce, (image_ND, text_ND, scale, negative_MD))
    assert gradcheck(
        lambda a, b, s, x, n: sigmoid_loss(a, b, s, x, True, n), (image_ND, text_ND, scale, bias, negative_MD)
    )


def test_gradients_can_be_taken_twice(cut: int) -> None:
    tensors = leaves([9, WIDTH], [9, WIDTH], [], [])
    image_ND, text_ND, scale, bias = tensors
    for loss in (info_nce(image_ND, text_ND, scale), sigmoid_loss(image_ND, text_ND, scale, bias)):
        first, second = (torch.autograd.grad(loss, tensors[:3], retain_graph=True) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_order_of_the_pairs_does_not_matter(cut: int) -> None:
    image_ND, text_ND, scale, bias = leaves([13, WIDTH], [13, WIDTH], [], [])
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    for loss in (lambda a, b: info_nce(a, b, scale), lambda a, b: sigmoid_loss(a, b, scale, bias)):
        torch.testing.assert_close(loss(image_ND[order], text_ND[order]), loss(image_ND, text_ND), rtol=1e-12, atol=0)


def test_a_pair_alone_has_nothing_to_be_told_apart_from() -> None:
    image_ND, text_ND, scale = leaves([1, WIDTH], [1, WIDTH], [])
    assert float(info_nce(image_ND, text_ND, scale)) == 0.0
    assert float(info_nce(image_ND.float(), text_ND.float(), scale.float() * 100)) == 0.0


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_keep_the_type_of_what_they_are_for(autocast: bool) -> None:
    image_ND, text_ND, scale, bias = (x.detach().bfloat16().requires_grad_() for x in leaves([70, 8], [70, 8], [], []))
    exact = [x.detach().double().requires_grad_() for x in (image_ND, text_ND, scale, bias)]
    expected = torch.autograd.grad(plain_sigmoid(*exact), exact)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = torch.autograd.grad(sigmoid_loss(image_ND, text_ND, scale, bias), [image_ND, text_ND, scale, bias])
    for ours, plain in zip(found, expected, strict=True):
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours.double(), plain, rtol=2**-8, atol=1e-6)


def test_autocast_around_the_backward_pass_rounds_nothing(cut: int) -> None:
    image_ND, text_ND, scale, bias = (x.detach().float().requires_grad_() for x in leaves([70, 8], [70, 8], [], []))
    for loss, tensors in ((info_nce, [image_ND, text_ND, scale]), (sigmoid_loss, [image_ND, text_ND, scale, bias])):
        plain = torch.autograd.grad(loss(*tensors), tensors)
        with torch.autocast("cpu", torch.bfloat16):
            found = torch.autograd.grad(loss(*tensors), tensors)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, plain, strict=True))


def test_images_and_texts_of_different_number_cannot_be_paired() -> None:
    image_ND, text_MD, scale, bias = leaves([4, WIDTH], [5, WIDTH], [], [])
    for images, texts in ((image_ND, text_MD), (text_MD, image_ND)):
        with pytest.raises(AssertionError, match="images cannot"):
            info_nce(images, texts, scale)
        with pytest.raises(AssertionError, match="images cannot"):
            sigmoid_loss(images, texts, scale, bias)


def test_no_matrix_of_all_pairs_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP", 2**14)
    image_ND, text_ND, negative_MD, scale, bias = leaves([512, 8], [512, 8], [512, 8], [], [])
    for loss, plain, tensors in (
        (info_nce, plain_info_nce, [image_ND, text_ND, scale, negative_MD]),
        (sigmoid_loss, plain_sigmoid, [image_ND, text_ND, scale, bias]),
    ):
        assert largest_of_backward(plain, *tensors) >= 512**2
        assert largest_of_backward(loss, *tensors) <= 64 * 1024


def test_strips_cover_every_row_once() -> None:
    for rows, columns in ((1, 1), (5, 10**9), (1000, 70_000), (4096, 4096)):
        found = list(strips.strips(rows, columns))
        assert [row for strip in found for row in range(strip.start, strip.stop)] == list(range(rows))
