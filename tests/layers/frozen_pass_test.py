"""The frozen pass gives the tower's own features, in batches of one size, compiled or not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diptych.layers import frozen_pass
from diptych.layers.frozen_pass import FrozenPass, compiled_frozen, cpp_compiler


class Spy(nn.Module):
    """A small convolutional tower that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3))
        norm: Any = self.layers[1]
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
        self.seen: list[tuple[tuple[int, ...], bool, bool]] = []

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.seen.append((tuple(x_BCHW.shape), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        features: Tensor = self.layers(x_BCHW)
        return features.mean((2, 3))


class Sums(nn.Module):
    """A text tower's signature: two inputs, of which rows belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        inside = torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]
        return (self.weight * tokens_BT * inside).sum(1, keepdim=True)


def pictures(rows: int) -> Tensor:
    return torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 11])
def test_every_batch_has_one_size_and_every_row_its_own_features(rows: int) -> None:
    tower = Spy().eval()
    found = FrozenPass(tower, 4, compiled=False)(pictures(rows))
    assert {shape for shape, _, _ in tower.seen} == {(4, 3, 8, 8)}
    assert len(tower.seen) == -(-rows // 4)
    torch.testing.assert_close(found, tower(pictures(rows)), rtol=1e-5, atol=1e-6)


def test_rows_of_several_inputs_stay_together() -> None:
    tokens, lengths = torch.arange(35).reshape(7, 5), torch.tensor([1, 5, 2, 4, 3, 5, 1])
    found = FrozenPass(Sums().eval(), 3, compiled=False)(tokens, lengths)
    expected = [float(row[:length].sum()) for row, length in zip(tokens, lengths.tolist(), strict=True)]
    assert found.flatten().tolist() == expected


def test_nothing_is_kept_for_gradients() -> None:
    tower = Spy().eval()
    found = FrozenPass(tower, 4, compiled=False)(pictures(3))
    assert not found.requires_grad and not tower.seen[0][1]


def test_bf16_is_of_the_products_only_and_features_are_float32() -> None:
    tower = Spy().eval()
    exact = FrozenPass(tower, 4, compiled=False)(pictures(9))
    rounded = FrozenPass(tower, 4, precision="bfloat16", compiled=False)(pictures(9))
    assert [autocast for _, _, autocast in tower.seen] == [False] * 3 + [True] * 3
    assert rounded.dtype == exact.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert float(torch.cosine_similarity(rounded, exact).min()) > 0.998


def test_an_outer_autocast_does_not_round_a_float32_pass() -> None:
    tower = Spy().eval()
    exact = FrozenPass(tower, 4, compiled=False)(pictures(4))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(FrozenPass(tower, 4, compiled=False)(pictures(4)), exact)


def test_a_tower_in_training_mode_is_a_programmers_mistake() -> None:
    with pytest.raises(AssertionError, match="evaluation mode"):
        FrozenPass(Spy().train(), 4, compiled=False)


def test_without_a_compiler_it_runs_eagerly_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cpp_compiler() is None
    tower = Spy().eval()
    with caplog.at_level(logging.WARNING):
        assert compiled_frozen(tower) is tower
    assert "no C++ compiler was found" in caplog.text
    assert bool(FrozenPass(tower, 4)(pictures(5)).isfinite().all())


def test_the_compiler_that_is_named_is_taken_else_the_first_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"clang++": "/somewhere/clang++"}
    monkeypatch.setattr("shutil.which", there.get)
    monkeypatch.delenv("CXX", raising=False)
    assert cpp_compiler() == "/somewhere/clang++"
    monkeypatch.setenv("CXX", "mine")
    assert cpp_compiler() is None
    there["mine"] = "/mine"
    assert cpp_compiler() == "/mine"


@pytest.mark.slow
@pytest.mark.skipif(cpp_compiler() is None, reason="compiling needs a C++ compiler")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_features_are_the_eager_ones(precision: frozen_pass.Precision) -> None:
    tower = Spy().eval()
    eager = FrozenPass(tower, 4, compiled=False)(pictures(11))
    found = FrozenPass(tower, 4, precision=precision)(pictures(11))
    assert found.shape == eager.shape and found.dtype == torch.float32
    if precision == "float32":
        torch.testing.assert_close(found, eager, rtol=1e-4, atol=1e-5)
    assert float(torch.cosine_similarity(found, eager).min()) > 0.998
