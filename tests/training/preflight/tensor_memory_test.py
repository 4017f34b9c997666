"""Bytes of tensors as they are made and freed, against what can be counted by hand."""

import torch
from torch import nn

from diptych.training.preflight.tensor_memory import TensorMemory

FLOAT = 4


def test_what_a_layer_makes_is_counted_to_the_byte() -> None:
    layer, rows_BD = nn.Linear(10, 1000), torch.ones(50, 10)
    with torch.no_grad(), TensorMemory(layer.parameters()) as memory:
        out_BD = layer(rows_BD)
        assert memory.most == FLOAT * 50 * 1000
        again_BD = out_BD * 2
        del out_BD, again_BD
        layer(rows_BD)  # as much as was there already: what was freed is used again
    assert memory.most == 2 * FLOAT * 50 * 1000
    assert memory.operations >= 3


def test_views_and_results_in_place_are_no_memory() -> None:
    rows_BD = torch.ones(50, 10)
    with TensorMemory() as memory:
        rows_BD.view(10, 50).t().add_(1)
        assert memory.most == 0
        rows_BD.sum()
    assert memory.most == FLOAT


def test_gradients_are_told_from_what_the_passes_make() -> None:
    """Two square layers: when all gradients are there, the activations are gone."""
    width, rows = 64, 200
    model = nn.Sequential(nn.Linear(width, width, bias=False), nn.Tanh(), nn.Linear(width, width, bias=False))
    rows_BD = torch.randn(rows, width)
    for _ in range(2):  # the second time the gradients of the first are there to begin with
        with TensorMemory(model.parameters()) as memory:
            model.zero_grad()
            loss = model(rows_BD).sum()
            loss.backward()
            del loss
        weight, activation = FLOAT * width**2, FLOAT * rows * width
        assert [held.gradients for held in memory.moments[1:]] == [weight, 2 * weight]
        assert max(held.others for held in memory.moments[:1]) >= 2 * activation  # tanh's result, the last layer's
        assert memory.moments[-1].others < activation
        assert len(memory.moments) == 3
