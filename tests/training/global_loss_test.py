"""Terms over the global batch on several processes: gathered rows and the ring give what one process gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional as F
from training_toys import WIDTH, LinePredictor, PointProcessor, Points, assert_same, gradients, points

from diptych.core.losses import Losses, Part, Scope, total
from diptych.core.task import Features, LocalOutput, PairwiseTask
from diptych.distributed.world import current, leave
from diptych.training import parallel
from diptych.training.backward import backward


class Pairs(PairwiseTask[Points]):
    """A yes or no for each pair of points; rows that are not wanted, and a weight that only the loss uses, travel too.

    The left side stays, the right side travels.
    """

    travelling = ("right", "wanted")

    def __init__(self) -> None:
        super().__init__()
        self.processor = PointProcessor()
        self.left, self.right = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)
        self.mix = nn.Linear(4, 4)
        self.bias = nn.Parameter(torch.tensor(-1.0))
        self.evaluations = 0

    def features(self, batch: Points, phase: str = "main") -> LocalOutput:
        own_B = self.left(batch.x_BD).square().sum(1)
        rows = Features(left=self.left(batch.x_BD), right=self.right(batch.x_BD), wanted=batch.count_B > 0)
        return LocalOutput(rows, {"size": Part(own_B.sum(), len(own_B), weight=0.1)})

    def pair_losses(self, here: Features, there: Features, own: bool, phase: str = "main") -> Losses:
        self.evaluations += 1
        logits_NM = self.mix(here["left"]) @ there["right"].T + self.bias
        losses_NM = F.softplus(logits_NM) - (logits_NM.diagonal().diag() if own else 0.0)
        found = (losses_NM * there["wanted"]).sum()
        return {"pairs": Part(found, len(here["left"]), weight=0.7, scope=Scope.GLOBAL_BATCH)}

    def predictor(self) -> LinePredictor:
        return LinePredictor(self.left)


def pairs() -> Pairs:
    torch.manual_seed(3)
    return Pairs().double()


def ring(rank: int, shares: tuple[int, ...], kind: parallel.Parallel, micro: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(shares))
    task, begin = pairs(), sum(shares[:rank])
    mine = slice(begin, begin + shares[rank])
    whole = points(8)
    batch = Points(whole.keys[mine], whole.x_BD[mine], whole.y_B[mine], whole.count_B[mine])
    wrapped = parallel.wrap(task, current(), kind, torch.device("cpu"))
    losses = backward(wrapped, batch.split(micro))
    assert task.evaluations == len(shares)  # one a block: a process never sees all pairs
    found = {name: parallel.whole(p.grad) for name, p in task.named_parameters() if p.grad is not None}
    torch.save({**found, **losses}, f"{folder}/{rank}.pt")
    del wrapped, task
    leave()


@pytest.mark.parametrize(
    ("shares", "kind", "micro"),
    [pytest.param((5, 3), "ddp", 8, marks=pytest.mark.slow), ((2, 1, 5), "ddp", 2), ((4, 4), "fsdp", 2)],
    ids=["two", "three, in micro-batches", "sharded, in micro-batches"],
)
def test_a_ring_of_processes_has_the_loss_and_gradients_of_one(
    tmp_path: Path, shares: tuple[int, ...], kind: parallel.Parallel, micro: int
) -> None:
    task, batch = pairs(), points(8)
    losses = task.losses(batch)
    total(losses).backward()  # type: ignore[no-untyped-call]
    mp.spawn(ring, (shares, kind, micro, str(tmp_path)), nprocs=len(shares))
    for rank in range(len(shares)):
        found: dict[str, Tensor] = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        reported = {name: found.pop(name) for name in ("pairs", "size", "loss")}
        assert_same(found, gradients(task))
        for name, part in losses.items():
            torch.testing.assert_close(reported[name], part.value.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(reported["loss"], total(losses).detach(), rtol=1e-12, atol=0)
