"""The weight average against a recursion by hand, and that lending its place to it changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diptych.training.ema import WeightAverage


class Weights(nn.Module):
    """One trained number, one frozen one, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        self.frozen = nn.Parameter(torch.tensor([5.0], dtype=torch.float64), requires_grad=False)
        self.register_buffer("count", torch.tensor(7))


def moved(module: Weights, to: float) -> None:
    with torch.no_grad():
        module.trained.fill_(to)


@pytest.mark.parametrize("decay", [0.25, 0.999])
def test_the_average_follows_the_recursion(decay: float) -> None:
    module = Weights()
    average, expected = WeightAverage(module, decay), 1.0
    for update, value in enumerate((2.0, -3.0, 10.0, 4.0), 1):
        moved(module, value)
        average.update()
        share = min(decay, (1 + update) / (10 + update))
        expected = share * expected + (1 - share) * value
        assert float(average.average["trained"]) == pytest.approx(expected, rel=1e-12)
    assert average.updates == 4
    assert set(average.average) == {"trained"}


def test_a_long_run_uses_the_full_decay() -> None:
    module = Weights()
    average = WeightAverage(module, 0.5)
    average.updates = 8  # the limit for update 9 is 10 / 19 > 0.5
    moved(module, 3.0)
    average.update()
    assert float(average.average["trained"]) == 2.0


def test_in_place_shows_the_average_and_gives_the_weights_back_exactly() -> None:
    module = Weights()
    average = WeightAverage(module, 0.9)
    moved(module, 0.1 + 0.2)
    kept, address = module.trained.detach().clone(), module.trained.data_ptr()
    with average.in_place():
        assert module.trained.item() == 1.0
        assert module.frozen.item() == 5.0
    assert torch.equal(module.trained, kept) and module.trained.data_ptr() == address
    assert float(average.average["trained"]) == 1.0


def test_weights_come_back_when_the_block_fails() -> None:
    module = Weights()
    average = WeightAverage(module, 0.9)
    moved(module, 2.0)
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert module.trained.item() == 2.0


def test_a_restored_average_goes_on_as_if_it_had_never_stopped() -> None:
    module = Weights()
    average = WeightAverage(module, 0.9)
    moved(module, 2.0)
    average.update()
    state = {"updates": average.updates, "average": {"trained": average.average["trained"].clone()}}
    again = WeightAverage(Weights(), 0.9)
    again.load_state_dict(state)
    for one in (average, again):
        live: nn.Module = one._module
        assert isinstance(live, Weights)
        moved(live, -1.5)
        one.update()
    assert again.updates == 2
    assert torch.equal(again.average["trained"], average.average["trained"])
