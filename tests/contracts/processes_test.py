"""Two processes give every model the gradients of one."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from contract import Case, eight_samples, gradients, whole_batch
from models_test import CASES

from diptych.distributed.world import leave
from diptych.training.backward import backward


def worker(rank: int, module: str, name: str, folder: str) -> None:
    from importlib import import_module

    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    task = Case(import_module(module), name).task().double()
    # Five and three samples: unequal ranks must not matter.
    batch = whole_batch(task, eight_samples()[:5] if rank == 0 else eight_samples()[5:])
    wrapped = DistributedDataParallel(task)
    for phase in task.phases:
        backward(wrapped, [batch], phase)
    if rank == 0:
        torch.save({n: p.grad for n, p in task.named_parameters() if p.grad is not None}, f"{folder}/gradients.pt")
    del wrapped
    leave()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.module.__name__.rpartition('.')[2]}-{case.name}")
def test_two_processes_equal_one(case: Case, tmp_path: Path) -> None:
    mp.spawn(worker, (case.module.__name__, case.name, str(tmp_path)), nprocs=2)
    found = torch.load(tmp_path / "gradients.pt")
    expected = gradients(case, sizes=(8,))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-10, msg=name)
