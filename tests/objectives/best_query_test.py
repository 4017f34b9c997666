"""Contrast by the best query: one pair at a time, the scale at the beginning, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from diptych.objectives import best_query as module
from diptych.objectives.best_query import best_query, best_query_contrast


def test_a_picture_is_as_close_as_its_closest_query(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    image, text = torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    wanted = torch.tensor([[max(float(query @ one) for query in picture) for one in text] for picture in image])
    torch.testing.assert_close(best_query(image, text), wanted.double())
    monkeypatch.setattr(module, "_PICTURES_AT_ONCE", 2)
    torch.testing.assert_close(best_query(image, text), wanted.double())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_published_one(smoothing: float) -> None:
    torch.manual_seed(0)
    close, temperature = torch.randn(4, 4, dtype=torch.float64), torch.tensor(0.07, dtype=torch.float64)
    total = 0.0
    for rows in (close / temperature, close.T / temperature):
        chances = rows.log_softmax(1)
        for place in range(4):
            labels = torch.full((4,), smoothing / 4, dtype=torch.float64)
            labels[place] += 1 - smoothing
            total -= float(labels @ chances[place]) / 4
    assert float(best_query_contrast(close, temperature, smoothing)) == pytest.approx(total / 2)


def test_where_nothing_is_known_it_is_the_logarithm_of_the_pairs() -> None:
    assert float(best_query_contrast(torch.zeros(8, 8), torch.tensor(0.07))) == pytest.approx(math.log(8))


def test_gradients_reach_the_best_query_alone_and_the_temperature() -> None:
    torch.manual_seed(0)
    image = F.normalize(torch.randn(3, 4, 6, dtype=torch.float64), dim=-1).requires_grad_()
    text = F.normalize(torch.randn(3, 6, dtype=torch.float64), dim=-1)
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: best_query_contrast(best_query(x, text), t), (image, temperature))
    best_query_contrast(best_query(image, text), temperature).backward()
    best = {(i, int((image[i] @ text[j]).argmax())) for i in range(3) for j in range(3)}
    touched = {(i, q) for i in range(3) for q in range(4) if float(image.grad[i, q].abs().sum()) > 0}  # type: ignore[index]
    assert touched == best and temperature.grad is not None
