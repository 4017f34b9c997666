"""Losses in which a row may belong to several, against the papers' formulas written down pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from largest import largest_of_backward
from plain import plain_multi_positive
from torch import Tensor
from torch.autograd.gradcheck import gradcheck

from diptych.objectives import strips
from diptych.objectives.contrastive import info_nce
from diptych.objectives.multi_positive import multi_positive, multi_positive_pairs

LABELS = torch.tensor([5, 5, 2, -7, 2, 5, 2**62, 11])


@pytest.fixture(params=[1, 20, 10**6])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(strips, "STRIP", request.param)
    monkeypatch.setattr(strips, "_FEWEST_ROWS", 1)
    return int(request.param)


def leaves(*shapes: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def assert_same(found: Tensor, expected: Tensor, tensors: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    pairs = zip(torch.autograd.grad(found, tensors), torch.autograd.grad(expected, tensors), strict=True)
    for ours, plain in pairs:
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


def supcon_by_loops(rows: list[list[float]], labels: list[int], temperature: float) -> float:
    """L_out of the paper, the mean over the anchors that have a positive."""
    losses = []
    for i, anchor in enumerate(rows):
        others = [a for a in range(len(rows)) if a != i]
        e = {a: math.exp(sum(x * y for x, y in zip(anchor, rows[a], strict=True)) / temperature) for a in others}
        positives = [p for p in others if labels[p] == labels[i]]
        if positives:
            losses.append(-sum(math.log(e[p] / sum(e.values())) for p in positives) / len(positives))
    return sum(losses) / len(losses)


def test_views_among_themselves_are_supcon_by_loops(cut: int) -> None:
    (rows_ND,) = leaves([8, 3])
    found = multi_positive(rows_ND, rows_ND, torch.tensor(1 / 0.7, dtype=torch.float64), LABELS, LABELS, skip_self=True)
    assert float(found) == pytest.approx(supcon_by_loops(rows_ND.tolist(), LABELS.tolist(), 0.7), rel=1e-10)


@pytest.mark.parametrize("skip_self", [False, True])
def test_it_is_the_cross_entropy_between_p_and_q(cut: int, skip_self: bool) -> None:
    anchor_ND, candidate_MD, scale = leaves([8, 3], [11, 3], [])
    labels_M = torch.cat([LABELS, torch.tensor([11, 4, 5])])
    arguments = (anchor_ND, candidate_MD, scale, LABELS, labels_M, skip_self)
    assert_same(multi_positive(*arguments), plain_multi_positive(*arguments), [anchor_ND, candidate_MD, scale])


def test_with_one_positive_each_it_is_info_nce(cut: int) -> None:
    image_ND, text_ND, scale = tensors = leaves([8, 3], [8, 3], [])
    labels_N = torch.arange(8)
    one_way = multi_positive(image_ND, text_ND, scale, labels_N, labels_N)
    other_way = multi_positive(text_ND, image_ND, scale, labels_N, labels_N)
    assert_same((one_way + other_way) / 2, info_nce(image_ND, text_ND, scale), tensors)
    both = multi_positive_pairs(image_ND, text_ND, labels_N, scale)
    assert_same(both, info_nce(image_ND, text_ND, scale), tensors)


def test_pairs_are_both_directions(cut: int) -> None:
    image_ND, text_ND, scale, negative_MD = tensors = leaves([8, 3], [8, 3], [], [6, 3])
    wanted_M = torch.arange(6) != 2
    candidates = torch.cat([text_ND, negative_MD[wanted_M]])
    labels = torch.cat([LABELS, torch.arange(5) + 100])
    of_images = plain_multi_positive(image_ND, candidates, scale, LABELS, labels)
    expected = (of_images + plain_multi_positive(text_ND, image_ND, scale, LABELS, LABELS)) / 2
    assert_same(multi_positive_pairs(image_ND, text_ND, LABELS, scale, negative_MD, wanted_M), expected, tensors)


def test_a_text_that_occurs_twice_does_not_push_its_images_apart() -> None:
    """At the optimum of two equal pairs and another one the gradient is 0; with InfoNCE it is not."""
    rows = torch.eye(2, dtype=torch.float64)[[0, 0, 1]].requires_grad_()
    scale = torch.tensor(60.0, dtype=torch.float64)
    labels = torch.tensor([3, 3, 9])
    (calm,) = torch.autograd.grad(multi_positive_pairs(rows, rows.detach(), labels, scale), rows)
    assert float(multi_positive_pairs(rows, rows, labels, scale)) == pytest.approx(2 / 3 * math.log(2))
    assert float(calm.abs().max()) < 1e-12
    assert float(info_nce(rows, rows, scale)) == pytest.approx(2 / 3 * math.log(2))


def test_anchors_without_a_positive_do_not_count() -> None:
    anchor_ND, candidate_MD, scale = leaves([3, 4], [5, 4], [])
    labels_M = torch.tensor([1, 1, 2, 2, 2])
    alone = multi_positive(anchor_ND, candidate_MD, scale, torch.tensor([1, 8, 9]), labels_M)
    assert_same(
        alone,
        multi_positive(anchor_ND[:1], candidate_MD, scale, torch.tensor([1]), labels_M),
        [anchor_ND, candidate_MD, scale],
    )
    nobody = multi_positive(anchor_ND, candidate_MD, scale, torch.tensor([7, 8, 9]), labels_M)
    assert float(nobody) == 0.0
    assert float(torch.autograd.grad(nobody, anchor_ND)[0].abs().max()) == 0.0


def test_embeddings_that_say_nothing_cost_the_log_of_the_candidates() -> None:
    same = torch.ones(8, 4, dtype=torch.float64)
    scale = torch.tensor(3.0, dtype=torch.float64)
    assert float(multi_positive(same, same, scale, LABELS, LABELS, skip_self=True)) == pytest.approx(math.log(7))
    assert float(multi_positive_pairs(same, same, LABELS, scale)) == pytest.approx(math.log(8))


def test_gradients_are_those_of_finite_differences(cut: int) -> None:
    anchor_ND, candidate_MD, scale = leaves([8, 3], [8, 3], [])
    for skip_self in (False, True):
        assert gradcheck(
            lambda a, c, s, skip=skip_self: multi_positive(a, c, s, LABELS, LABELS, skip),
            (anchor_ND, candidate_MD, scale),
        )
    assert gradcheck(lambda a, c, s: multi_positive_pairs(a, c, LABELS, s), (anchor_ND, candidate_MD, scale))


def test_no_matrix_of_all_pairs_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP", 2**14)
    rows_ND, scale = leaves([512, 8], [])
    labels_N = torch.arange(512) // 3
    largest = largest_of_backward(lambda x, s: multi_positive(x, x, s, labels_N, labels_N, True), rows_ND, scale)
    assert largest <= 64 * 512
    assert largest_of_backward(lambda x, s: multi_positive_pairs(x, x, labels_N, s), rows_ND, scale) <= 64 * 512
