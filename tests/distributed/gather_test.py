"""Rows gathered over real processes (gloo), with their gradients, against one process."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from diptych.distributed.gather import gather_rows, row_counts, sum_over_ranks
from diptych.distributed.world import World, current, leave

ROWS = {2: (3, 2), 3: (1, 4, 2)}


def loss_of(rows_ND: torch.Tensor) -> torch.Tensor:
    return (rows_ND @ rows_ND.T).exp().mean() + (rows_ND * torch.arange(1.0, len(rows_ND) + 1)[:, None]).sum()


def worker(rank: int, sizes: tuple[int, ...], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(sizes))
    rows = torch.load(f"{folder}/rows.pt").split(list(sizes))[rank].clone().requires_grad_()
    assert current() == World(rank, len(sizes))
    assert row_counts(len(rows), rows.device) == list(sizes)
    assert float(sum_over_ranks(torch.tensor(rank + 1.0))) == sum(range(1, len(sizes) + 1))
    gathered = gather_rows(rows)
    loss = loss_of(gathered)
    loss.backward()
    torch.save({"loss": loss.detach(), "grad": rows.grad}, f"{folder}/{rank}.pt")
    leave()


@pytest.mark.parametrize("processes", [2, 3])
def test_loss_and_gradients_equal_one_process(processes: int, tmp_path: Path) -> None:
    sizes = ROWS[processes]
    rows = torch.randn(sum(sizes), 4, dtype=torch.float64)
    torch.save(rows, tmp_path / "rows.pt")
    mp.spawn(worker, (sizes, str(tmp_path)), nprocs=processes)
    whole = rows.clone().requires_grad_()
    loss = loss_of(whole)
    loss.backward()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    assert all(torch.allclose(one["loss"], loss, rtol=1e-12) for one in found)
    # Each rank computed the same scalar, so a row's gradient is `processes` times its own: what averaging divides out.
    together = torch.cat([one["grad"] for one in found]) / processes
    torch.testing.assert_close(together, whole.grad, rtol=1e-12, atol=1e-12)


def test_one_process_needs_no_group() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather_rows(rows) is rows
    assert row_counts(3, rows.device) == [3]
    assert float(sum_over_ranks(torch.tensor(2.0))) == 2.0
