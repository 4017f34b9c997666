"""An exponential moving average of the weights: what is evaluated and saved as the model, when it is on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """decay * average + (1 - decay) * weights after every step, with Adam-style correction of the start.

    Without the correction the average would lean on the random initialisation for 1 / (1 - decay) steps; so the decay
    at step t is at most (1 + t) / (10 + t).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._module = module
        self.average = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the current weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = dict(self._module.named_parameters())
        names = list(self.average)
        torch._foreach_lerp_([self.average[n] for n in names], [live[n].detach() for n in names], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the average in the place of the weights for the length of the block."""
        live = {name: p for name, p in self._module.named_parameters() if name in self.average}
        kept = {name: p.detach().clone() for name, p in live.items()}
        try:
            self._write(live, self.average)
            yield
        finally:
            self._write(live, kept)

    @staticmethod
    @torch.no_grad()
    def _write(live: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
        for name, parameter in live.items():
            parameter.copy_(values[name])

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict[str, object]) -> None:
        average = state["average"]
        assert isinstance(average, dict) and isinstance(state["updates"], int)
        assert average.keys() == self.average.keys(), "the average of another model"
        self.updates = state["updates"]
        for name, tensor in average.items():
            self.average[name].copy_(tensor)
