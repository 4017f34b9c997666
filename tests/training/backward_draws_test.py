"""Gradient caching with what makes it hard: dropout, autocast, parts of both scopes, rows that have no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training_toys import WIDTH, LinePredictor, PointProcessor, Points, assert_same, gradients, points

from diptych.core.losses import Losses, Part, Scope, total
from diptych.core.seeding import seed_everything
from diptych.core.task import Features, GlobalTask, LocalOutput
from diptych.objectives.contrastive import info_nce
from diptych.training.backward import backward

SEED = (11, "train", 4, "main")


class Matching(GlobalTask[Points]):
    """Two views of each point must find each other; the sum of squares travels along as a part of scope mean."""

    def __init__(self, dropout: float = 0.0, head_dropout: float = 0.0) -> None:
        super().__init__()
        self.processor = PointProcessor()
        self.left, self.right = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8)
        self.head = nn.Linear(8, 8)
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.dropout, self.head_dropout = dropout, head_dropout
        self.seen: list[Tensor] = []

    def features(self, batch: Points, phase: str = "main") -> LocalOutput:
        dropped_BD = F.dropout(batch.x_BD, self.dropout)
        left_BD, right_BD = self.left(dropped_BD), self.right(batch.x_BD.sin())
        self.seen.append(left_BD.detach())
        own_B = (left_BD**2).sum(1) * batch.count_B
        parts = {"size": Part(own_B.sum(), float(batch.count_B.sum()), weight=0.1)}
        return LocalOutput(Features(left=left_BD, right=right_BD), parts)

    def counts(self, batch: Points, phase: str = "main") -> dict[str, float]:
        return {"size": float(batch.count_B.sum())}

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        left_ND = self.head(F.dropout(features["left"], self.head_dropout))
        rows = len(left_ND)
        loss = info_nce(F.normalize(left_ND, dim=-1), F.normalize(features["right"], dim=-1), self.log_scale.exp())
        return {"match": Part(loss * rows, rows, weight=0.7, scope=Scope.GLOBAL_BATCH)}

    def predictor(self) -> LinePredictor:
        return LinePredictor(self.left)


class Labelled(Matching):
    """Its rows include whole numbers, which have no gradient, and rows that no loss looks at."""

    def features(self, batch: Points, phase: str = "main") -> LocalOutput:
        output = super().features(batch, phase)
        unused = self.left(batch.x_BD)
        label_B = batch.count_B.long() % 3
        return LocalOutput(Features(**output.features, label=label_B, unused=unused), output.parts)

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        one = features["label"] == 1
        return super().losses_from(Features(left=features["left"][one], right=features["right"][one]), phase)


def matching(cls: type[Matching] = Matching, **dropout: float) -> Matching:
    torch.manual_seed(7)
    return cls(**dropout).double()


def cut(task: Matching, size: int, seed: tuple[str | int, ...] = SEED, **settings: Any) -> dict[str, Tensor]:
    """Gradients of eight points in micro-batches of `size`."""
    task.zero_grad()
    backward(task, points(8).split(size), "main", seed=seed, **settings)
    return gradients(task)


@pytest.mark.parametrize("size", [1, 3, 4, 8])
def test_parts_of_both_scopes_share_one_pass(size: int) -> None:
    task, batch = matching(), points(8)
    losses = task.losses(batch)
    total(losses).backward()  # type: ignore[no-untyped-call]
    expected = gradients(task)
    task.zero_grad()
    found = backward(task, batch.split(size), "main")
    assert_same(gradients(task), expected)
    for name, part in losses.items():
        torch.testing.assert_close(found[name], part.value.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found["loss"], total(losses).detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [1, 3, 4, 8])
def test_whole_numbers_and_unused_rows_may_travel_as_features(size: int) -> None:
    task, batch = matching(Labelled), points(8)
    total(task.losses(batch)).backward()  # type: ignore[no-untyped-call]
    expected = gradients(task)
    task.zero_grad()
    backward(task, batch.split(size), "main")
    assert_same(gradients(task), expected)


def by_hand(task: Matching, batches: Sequence[Points]) -> dict[str, Tensor]:
    """One graph over all micro-batches, each with the draws that its first key and the seed give."""
    task.zero_grad()
    outputs = []
    for batch in batches:
        seed_everything(*SEED, batch.keys[0])
        outputs.append(task.features(batch))
    rows = Features({n: torch.cat([o.features[n] for o in outputs]) for n in ("left", "right")})
    own = torch.stack([o.parts["size"].sum for o in outputs]).sum() / 12  # 0 + 1 + 2 + 3, twice
    (total(task.losses_from(rows)) + 0.1 * own).backward()  # type: ignore[no-untyped-call]
    return gradients(task)


@pytest.mark.parametrize("size", [2, 3])
def test_both_passes_of_gradient_caching_draw_the_same_dropout(size: int) -> None:
    task = matching(dropout=0.5)
    expected = by_hand(task, points(8).split(size))
    torch.manual_seed(99)  # what was drawn before must not matter
    task.seen.clear()
    assert_same(cut(task, size), expected)
    passes = len(task.seen) // 2  # embedding, embedding again
    for first, second in zip(task.seen[:passes], task.seen[passes:], strict=True):
        assert torch.equal(first, second)


def test_the_same_seed_draws_the_same_gradient_and_another_seed_another_one() -> None:
    for size in (3, 8):
        task = matching(dropout=0.5)
        once = cut(task, size)
        assert_same(cut(task, size), once, rtol=0)
        other = cut(task, size, seed=(12, "train", 4, "main"))
        assert float((other["left.weight"] - once["left.weight"]).abs().max()) > 1e-3


@pytest.mark.parametrize("size", [1, 3, 4])
def test_dropout_on_the_gathered_rows_is_that_of_the_whole_batch(size: int) -> None:
    task = matching(head_dropout=0.5)
    whole = cut(task, 8)
    assert_same(cut(task, size), whole)


@pytest.mark.parametrize("size", [2, 8])
def test_autocast_embeds_in_bf16_and_leaves_gradients_in_fp32(size: int) -> None:
    task = matching().float()
    batch = points(8, torch.float32)
    total(task.losses(batch)).backward()  # type: ignore[no-untyped-call]
    exact = gradients(task)
    task.zero_grad()
    task.seen.clear()
    backward(task, batch.split(size), "main", autocast=partial(torch.autocast, "cpu", torch.bfloat16))
    assert {rows.dtype for rows in task.seen} == {torch.bfloat16}
    for name, gradient in gradients(task).items():
        assert gradient.dtype == torch.float32
        error = float((gradient - exact[name]).norm() / exact[name].norm())
        assert 0 < error < 0.05, (name, error)
