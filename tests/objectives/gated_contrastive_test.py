"""InfoNCE of which only some rows are asked about: against every logit written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.objectives.contrastive import info_nce
from diptych.objectives.gated_contrastive import gated_info_nce


def rows(count: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(2, count, 5, generator=generator, dtype=torch.float64)
    image_ND, text_ND = F.normalize(made, dim=-1)
    return image_ND.requires_grad_(), text_ND.requires_grad_()


PAIR = torch.tensor([True, False, True, True, False, True, True])
MATCHED = torch.tensor([True, False, False, True, False, True, False])


def written_out(image_ND: Tensor, text_ND: Tensor, scale: Tensor, pair: list[int], matched: list[int]) -> Tensor:
    loss = torch.zeros((), dtype=torch.float64)
    for i in matched:
        own = scale * image_ND[i] @ text_ND[i]
        of_texts = torch.stack([scale * image_ND[i] @ text_ND[j] for j in pair])
        of_images = torch.stack([scale * image_ND[j] @ text_ND[i] for j in pair])
        loss = loss + (of_texts.logsumexp(0) + of_images.logsumexp(0)) / 2 - own
    return loss


def test_it_is_the_sum_over_matched_rows_among_all_pairs_with_its_gradients() -> None:
    (image, text), scale = rows(), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    found = gated_info_nce(image, text, scale, PAIR, MATCHED)
    gradients = torch.autograd.grad(found, [image, text, scale])
    expected = written_out(image, text, scale, [0, 2, 3, 5, 6], [0, 3, 5])
    torch.testing.assert_close(found, expected)
    for one, other in zip(gradients, torch.autograd.grad(expected, [image, text, scale]), strict=True):
        torch.testing.assert_close(one, other)
    assert not gradients[0][[1, 4]].any()  # rows that are no pair are not there


def test_of_pairs_that_all_match_it_is_info_nce() -> None:
    (image, text), scale = rows(), torch.tensor(3.0, dtype=torch.float64)
    everyone = torch.ones(7, dtype=torch.bool)
    found = gated_info_nce(image, text, scale, everyone, everyone)
    torch.testing.assert_close(found / 7, info_nce(image, text, scale))


@pytest.mark.parametrize("pairs", [0, 3])
def test_without_matching_rows_it_is_zero_with_a_gradient_path(pairs: int) -> None:
    (image, text), scale = rows(), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    found = gated_info_nce(image, text, scale, torch.arange(7) < pairs, torch.zeros(7, dtype=torch.bool))
    gradients = torch.autograd.grad(found, [image, text, scale])
    assert float(found.detach()) == 0 and not any(bool(gradient.any()) for gradient in gradients)


def test_rows_that_say_nothing_cost_the_log_of_the_number_of_pairs() -> None:
    same = torch.ones(7, 5, dtype=torch.float64)
    found = gated_info_nce(same, same, torch.tensor(1.0, dtype=torch.float64), PAIR, MATCHED)
    assert float(found) == pytest.approx(3 * math.log(5))
