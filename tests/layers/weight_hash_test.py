"""The name of a set of weights changes with every bit of it, and with nothing else."""

from __future__ import annotations

import copy

import torch
from torch import nn

from diptych.layers.weight_hash import weight_hash


def module() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, dtype=torch.bfloat16))
    made.register_buffer("scalar", torch.tensor(1.5))
    made.register_buffer("passing", torch.zeros(3), persistent=False)
    return made


def test_equal_weights_have_one_name_whatever_their_layout_mode_or_gradients() -> None:
    first, second = module(), module()
    assert len(weight_hash(first)) == 32
    second.eval().requires_grad_(False)
    weight = second[0].weight
    assert isinstance(weight, nn.Parameter)
    weight.data = weight.data.T.contiguous().T  # the same values at other places in memory
    second.get_buffer("passing").add_(1)
    assert weight_hash(second) == weight_hash(first) == weight_hash(copy.deepcopy(first))


def test_the_smallest_change_of_any_weight_or_buffer_is_another_name() -> None:
    names = {weight_hash(module())}
    for key, tensor in module().state_dict().items():
        changed = module()
        found = changed.state_dict()[key]
        flat = found.reshape(-1)
        flat[-1] = flat[-1] + 1 if not tensor.is_floating_point() else torch.nextafter(flat[-1], flat[-1] + 1)
        names.add(weight_hash(changed))
    assert len(names) == 1 + len(module().state_dict())


def test_names_shapes_types_and_their_order_are_part_of_it() -> None:
    weight = torch.arange(6.0)

    def hashed(**tensors: torch.Tensor) -> str:
        made = nn.Module()
        for name, tensor in tensors.items():
            made.register_buffer(name, tensor)
        return weight_hash(made)

    found = [
        hashed(a=weight),
        hashed(b=weight),
        hashed(a=weight.reshape(2, 3)),
        hashed(a=weight.reshape(3, 2)),
        hashed(a=weight.view(torch.int32)),
        hashed(a=weight[:3], b=weight[3:]),
        hashed(a=weight[3:], b=weight[:3]),
    ]
    assert len(set(found)) == len(found)
    assert hashed(a=weight[:3], b=weight[3:]) == hashed(b=weight[3:], a=weight[:3])
