"""Any number of processes gives every model the losses and gradients of one: DDP, FSDP2, equal and unequal shares."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from contract import Case, eight_samples, gradients_and_losses, whole_batch
from models_test import CASES
from torch import Tensor

from diptych.distributed.world import current, leave
from diptych.training import parallel
from diptych.training.backward import backward
from diptych.training.parallel import Parallel

SHARES: dict[tuple[Parallel, int], tuple[int, ...]] = {
    ("ddp", 2): (5, 3),
    ("ddp", 4): (3, 1, 2, 2),
    ("fsdp", 2): (4, 4),
    ("fsdp", 4): (2, 2, 2, 2),
}
# Four processes are slow on two cores.
WORLDS = [pytest.param(key, marks=[pytest.mark.slow] if key[1] == 4 else []) for key in SHARES]
NAMES = [(case.module.__name__, case.name) for case in CASES]


def worker(rank: int, kind: Parallel, shares: tuple[int, ...], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(shares))
    for module, name in NAMES:
        found = one_case(Case(import_module(module), name), kind, shares)
        if rank == 0:
            torch.save(found, f"{folder}/{module}.{name}.pt")
    leave()


def one_case(case: Case, kind: Parallel, shares: tuple[int, ...]) -> dict[str, Tensor]:
    """Losses and whole gradients of the eight samples, of which each process has its share."""
    task = case.task().double()
    rank = dist.get_rank()
    begin = sum(shares[:rank])
    batch = whole_batch(task, eight_samples()[begin : begin + shares[rank]])
    wrapped = parallel.wrap(task, current(), kind, torch.device("cpu"))
    found: dict[str, Tensor] = {}
    for phase in task.phases:
        for name, loss in backward(wrapped, [batch], phase).items():
            found[f"loss {phase} {name}"] = loss.detach()
    gradients = {name: parallel.whole(p.grad) for name, p in task.named_parameters() if p.grad is not None}
    return {**found, **gradients}


@pytest.fixture(scope="module", params=WORLDS, ids=lambda key: f"{key[0]}-{key[1]}")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the numbers of every model; starting processes takes longer than what they compute."""
    folder = tmp_path_factory.mktemp("processes")
    shares = SHARES[request.param]
    mp.spawn(worker, (request.param[0], shares, str(folder)), nprocs=len(shares))
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.module.__name__.rpartition('.')[2]}-{case.name}")
def test_several_processes_equal_one(case: Case, results: Path) -> None:
    found = torch.load(results / f"{case.module.__name__}.{case.name}.pt", weights_only=True)
    expected = gradients_and_losses(case)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-10, msg=name)
