"""Batch norm over processes against torch's own on the whole batch, with gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.distributed.gather import gather_rows
from diptych.distributed.world import leave
from diptych.layers.gathered_batch_norm import GatheredBatchNorm, GatheredBatchNorm2d
from diptych.layers.projector import Projector

SIZES = (5, 2)


def randomised(norm: nn.Module, seed: int = 1) -> nn.Module:
    """Gains, offsets and running statistics that are not ones and zeros, in float64."""
    generator = torch.Generator().manual_seed(seed)
    norm.double()
    with torch.no_grad():
        for tensor in (*norm.parameters(), *norm.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5)
    return norm


def inputs() -> Tensor:
    return torch.randn(sum(SIZES), 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 7


def loss_of(rows: Tensor) -> Tensor:
    """Not a sum over samples, so that every process's rows matter to every other's gradient."""
    flat = rows.flatten(1)
    return (flat @ flat.T / 50).tanh().sum() + flat[:, 0].square().mean()


def outcome(norm: nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor]:
    found = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    found |= {f"gradient of {name}": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    return found | {"out": out.detach(), "x": x.grad if x.grad is not None else torch.zeros(0)}


def expected(norm: nn.Module, x: Tensor) -> dict[str, Tensor]:
    whole = x.clone().requires_grad_()
    out = norm(whole)
    loss_of(out).backward()
    return outcome(norm, whole, out)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys() and len(found) >= 6
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_in_one_process_it_is_torchs(training: bool) -> None:
    x = inputs()
    for ours, theirs, values in (
        (GatheredBatchNorm(4), nn.BatchNorm1d(4), x[:, :, 0, 0]),
        (GatheredBatchNorm2d(4), nn.BatchNorm2d(4), x),
    ):
        randomised(ours).train(training)
        randomised(theirs).train(training)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert_same(expected(ours, values), expected(theirs, values))


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(SIZES))
    norm = randomised(GatheredBatchNorm2d(4))
    own = inputs().split(SIZES)[rank].clone().requires_grad_()
    with torch.no_grad():
        norm(own)  # a pass without a gradient, as in gradient caching, is not counted
    out = norm(own)
    loss_of(gather_rows(out)).backward()
    torch.save(outcome(norm, own, out), f"{folder}/{rank}.pt")
    norm.eval()
    torch.save(norm(own).detach(), f"{folder}/evaluated-{rank}.pt")
    leave()


def test_two_processes_of_unequal_shares_equal_torchs_on_the_whole_batch(tmp_path: Path) -> None:
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    theirs = randomised(nn.BatchNorm2d(4))
    wanted = expected(theirs, inputs())
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    found = {name: parts[0][name] for name in parts[0]}
    found["out"] = torch.cat([part["out"] for part in parts])
    # Both processes computed the same scalar: what averaging over them divides out.
    found["x"] = torch.cat([part["x"] for part in parts]) / 2
    for name in found:
        if name.startswith("gradient of"):
            found[name] = (parts[0][name] + parts[1][name]) / 2
        elif name not in {"out", "x"}:
            assert torch.equal(parts[0][name], parts[1][name]), name
    assert_same(found, wanted)
    evaluated = torch.cat([torch.load(tmp_path / f"evaluated-{rank}.pt") for rank in range(2)])
    torch.testing.assert_close(evaluated, theirs.eval()(inputs()).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", [GatheredBatchNorm(4), GatheredBatchNorm2d(4)])
def test_a_pass_without_a_gradient_leaves_the_running_statistics_alone(norm: nn.Module) -> None:
    x = torch.randn(6, 4) if isinstance(norm, GatheredBatchNorm) else torch.randn(6, 4, 2, 2)
    with torch.no_grad():
        without = norm(x)
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    assert int(before["num_batches_tracked"]) == 0
    assert torch.allclose(without, norm(x))
    assert int(norm.get_buffer("num_batches_tracked")) == 1
    assert not torch.equal(norm.get_buffer("running_mean"), before["running_mean"])


def test_statistics_are_in_fp32_under_autocast() -> None:
    """Values near 1000 with a spread of 1: in bf16 they could not be told apart."""
    x = torch.randn(64, 4) + 1000
    norm = GatheredBatchNorm(4)
    plain = norm(x)
    with torch.autocast("cpu", torch.bfloat16):
        under = norm(x)
    assert under.dtype == torch.float32 and torch.equal(under, plain)
    assert norm(x[:8].bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("norm", [GatheredBatchNorm(4), GatheredBatchNorm2d(4), Projector(4, 8, 2)])
def test_a_training_batch_of_one_is_refused_and_evaluated(norm: nn.Module) -> None:
    one = torch.randn(1, 4, 1, 1) if isinstance(norm, GatheredBatchNorm2d) else torch.randn(1, 4)
    with pytest.raises(ConfigError, match="a batch of one: a single value has no variance; raise batch_size"):
        norm(one)
    assert norm.eval()(one).isfinite().all()


def test_the_projector_is_three_linear_layers_with_two_batch_norms() -> None:
    projector = Projector(6, 16, 3)
    x = torch.randn(10, 6)
    first, norm_1, _, second, norm_2, _, third = projector.layers

    def by_hand(rows: Tensor, layer: nn.Module, norm: nn.Module) -> Tensor:
        rows = layer(rows)
        rows = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + norm.eps).sqrt()
        return (rows * norm.weight + norm.bias).clamp_min(0)

    wanted = third(by_hand(by_hand(x, first, norm_1), second, norm_2))
    torch.testing.assert_close(projector(x), wanted)
    assert sum(p.numel() for p in projector.parameters()) == 6 * 16 + 16 + 32 + 16 * 16 + 16 + 32 + 16 * 3 + 3
