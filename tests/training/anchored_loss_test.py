"""Losses over anchors, each of which meets rows of the whole batch: exact in micro-batches and on several processes."""

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
from diptych.core.task import AnchoredTask, Features, LocalOutput
from diptych.distributed.world import World, current, leave
from diptych.training import parallel
from diptych.training.backward import backward

SHAPE = 4


class Judge(nn.Module):
    """Looks at two rows together, in blocks that FSDP2 would shard one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(2 * SHAPE, 2 * SHAPE) for _ in range(2))
        self.out = nn.Linear(2 * SHAPE, 1)

    def forward(self, pair_N2D: Tensor) -> Tensor:
        x_NE = pair_N2D
        for block in self.blocks:
            x_NE = x_NE + torch.tanh(block(x_NE))
        found: Tensor = self.out(x_NE)
        return found[:, 0]


class Hard(AnchoredTask[Points]):
    """Tells each row from the row of another sample that is most like it; plus a term of all rows, and a local one."""

    gathered = ("judge",)

    def __init__(self) -> None:
        super().__init__()
        self.processor = PointProcessor()
        self.left, self.right = nn.Linear(WIDTH, SHAPE), nn.ModuleList([nn.Linear(WIDTH, SHAPE)])
        self.judge = Judge()
        self.calls: list[tuple[int, int]] = []

    def features(self, batch: Points, phase: str = "main") -> LocalOutput:
        left_BD, right_BD = self.left(batch.x_BD), self.right[0](batch.x_BD)
        judged_B = self.judge(torch.cat([left_BD, left_BD], -1))  # the same weights before and after the gather
        rows = Features(left=left_BD, right=right_BD, observations=batch.count_B.long())
        return LocalOutput(rows, {"own": Part(judged_B.square().sum(), len(judged_B), weight=0.3)})

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        loss = F.cross_entropy(features["left"] @ features["right"].T, torch.arange(len(features["left"])))
        return {"contrastive": Part(loss, 1, scope=Scope.GLOBAL_BATCH)}

    def anchor_losses(self, features: Features, begin: int, end: int, phase: str = "main") -> Losses:
        self.calls.append((begin, end))
        left, right = features["left"], features["right"]
        other_NN = (left @ right.T).detach().masked_fill(torch.eye(len(left), dtype=torch.bool), -torch.inf)
        hard_N = other_NN.argmax(1)[begin:end]
        wanted_N = features["observations"] > 0  # who has a negative is known to everyone
        anchor_ND = left[begin:end]
        yes_N = self.judge(torch.cat([anchor_ND, right[begin:end]], -1))
        no_N = self.judge(torch.cat([anchor_ND, right[hard_N]], -1))
        found = F.softplus(-yes_N).sum() + (F.softplus(no_N) * wanted_N[begin:end]).sum()
        pairs = len(left) + int(wanted_N.sum())
        return {"matching": Part(found, pairs, weight=0.7, scope=Scope.GLOBAL_BATCH)}

    def predictor(self) -> LinePredictor:
        return LinePredictor(self.left)


def hard() -> Hard:
    torch.manual_seed(3)
    return Hard().double()


def expected() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients and losses of the whole batch in one process, by autograd alone."""
    task = hard()
    losses = task.losses(points(8))
    total(losses).backward()  # type: ignore[no-untyped-call]
    parts = {name: part.value.detach() for name, part in losses.items()}
    return gradients(task), {**parts, "loss": total(losses).detach()}


def test_the_terms_are_those_of_the_closed_form() -> None:
    task, batch = hard(), points(8)
    part = task.losses(batch)["matching"]
    left_BD, right_BD = task.left(batch.x_BD), task.right[0](batch.x_BD)
    pairs = []
    for i in range(8):
        pairs.append(F.softplus(-task.judge(torch.cat([left_BD[i], right_BD[i]])[None])))
        others = [j for j in range(8) if j != i]
        j = max(others, key=lambda j: float((left_BD[i] @ right_BD[j]).detach()))
        if batch.count_B[i] > 0:
            pairs.append(F.softplus(task.judge(torch.cat([left_BD[i], right_BD[j]])[None])))
    assert part.count == len(pairs) == 14
    torch.testing.assert_close(part.value, torch.cat(pairs).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [8, 4, 3, 1])
def test_micro_batches_have_the_loss_and_gradients_of_the_whole(size: int) -> None:
    task = hard()
    losses = backward(task, points(8).split(size))
    wanted, parts = expected()
    assert_same(gradients(task), wanted)
    assert_same(losses, parts)
    assert task.calls == [(begin, min(begin + size, 8)) for begin in range(0, 8, size)]


def one_process(rank: int, shares: tuple[int, ...], kind: parallel.Parallel, micro: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(shares))
    task, begin = hard(), sum(shares[:rank])
    mine = slice(begin, begin + shares[rank])
    whole = points(8)
    batch = Points(whole.keys[mine], whole.x_BD[mine], whole.y_B[mine], whole.count_B[mine])
    wrapped = parallel.wrap(task, current(), kind, torch.device("cpu"))
    losses = backward(wrapped, batch.split(micro))
    assert (task.calls[0][0], task.calls[-1][1]) == (mine.start, mine.stop)  # its own anchors, and no others
    assert len(task.calls) == len(batch.split(micro))
    found = {name: parallel.whole(p.grad) for name, p in task.named_parameters() if p.grad is not None}
    torch.save({**found, **losses}, f"{folder}/{rank}.pt")
    del wrapped, task
    leave()


@pytest.mark.parametrize(
    ("shares", "kind", "micro"),
    [
        pytest.param((5, 3), "ddp", 8, marks=pytest.mark.slow),
        ((2, 1, 5), "ddp", 2),
        ((4, 4), "fsdp", 8),
        pytest.param((2, 2, 2, 2), "fsdp", 1, marks=pytest.mark.slow),
    ],
    ids=["two", "three, in micro-batches", "sharded", "four, sharded, in micro-batches"],
)
def test_several_processes_have_the_loss_and_gradients_of_one(
    tmp_path: Path, shares: tuple[int, ...], kind: parallel.Parallel, micro: int
) -> None:
    wanted, parts = expected()
    mp.spawn(one_process, (shares, kind, micro, str(tmp_path)), nprocs=len(shares))
    for rank in range(len(shares)):
        found: dict[str, Tensor] = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        reported = {name: found.pop(name) for name in parts}
        assert_same(found, wanted)
        assert_same(reported, parts)


def test_what_runs_on_gathered_rows_is_no_unit_of_fsdp() -> None:
    task = hard()
    assert parallel.units(task) == [task.right[0]]
    assert parallel.wrap(task, World(), "fsdp", torch.device("cpu")) is task


def test_a_task_without_a_term_of_all_rows_has_its_anchors_terms_alone() -> None:
    class Alone(Hard):
        def losses_from(self, features: Features, phase: str = "main") -> Losses:
            return {}

    torch.manual_seed(3)
    task = Alone().double()
    losses = backward(task, points(8).split(3))
    assert losses.keys() == {"own", "matching", "loss"}
    assert_same({"matching": losses["matching"]}, {"matching": expected()[1]["matching"]})


def test_under_autocast_weights_used_before_and_after_the_gather_get_both_gradients() -> None:
    task, plain = hard().float(), hard()
    batch = points(8, torch.float32)
    backward(task, batch.split(8), autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    at_once = gradients(task)
    task.zero_grad()
    backward(task, batch.split(3), autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    total(plain.losses(points(8))).backward()  # type: ignore[no-untyped-call]
    for found in (at_once, gradients(task)):
        for name, gradient in gradients(plain).items():
            torch.testing.assert_close(found[name].double(), gradient, rtol=0.1, atol=0.02, msg=name)
