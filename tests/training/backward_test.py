"""`backward`: the loss and the gradient of the whole batch, however it is cut into micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from training_toys import LineTask, Points, assert_same, gradients, points

from diptych.core.losses import Losses, total
from diptych.core.task import Task
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.contrastive import clip, siglip
from diptych.training.backward import backward

PAIRS = 8


@pytest.mark.parametrize("size", range(1, 9))
def test_means_over_unequal_micro_batches_are_those_of_the_closed_form(size: int) -> None:
    task, batch = LineTask().double(), points(7)
    losses = backward(task, batch.split(size), "main")
    with torch.no_grad():
        found_B = task.line(batch.x_BD).squeeze(1)
    error_B, observations = found_B - batch.y_B, batch.count_B.sum()  # 0 + 1 + 2 + 3 + 0 + 1 + 2 = 9
    assert observations == 9
    squares, square_size = (batch.count_B * error_B**2).sum() / 9, (found_B**2).mean()
    slope_B = 2 * batch.count_B * error_B / 9 + 0.5 * 2 * found_B / 7
    torch.testing.assert_close(losses["squares"], squares, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses["size"], square_size, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses["loss"], squares + 0.5 * square_size, rtol=1e-12, atol=0)
    expected = {"line.weight": slope_B[None] @ batch.x_BD, "line.bias": slope_B.sum()[None]}
    assert_same(gradients(task), expected)


def test_a_micro_batch_without_observations_adds_nothing_to_their_mean() -> None:
    task, batch = LineTask().double(), points(7)
    first = batch.split(1)[0]
    assert first.count_B.sum() == 0
    losses = backward(task, [first], "main")
    assert float(losses["squares"]) == float(task.losses(first)["squares"].value.detach()) == 0.0
    assert all(bool(gradient.isfinite().all()) for gradient in gradients(task).values())


def test_gradients_add_to_what_is_there() -> None:
    task, batch = LineTask().double(), points(7)
    backward(task, [batch], "main")
    once = gradients(task)
    backward(task, batch.split(2), "main")
    assert_same(gradients(task), {name: 2 * gradient for name, gradient in once.items()})


class Declared(LineTask):
    """Its counts come from the batch alone."""

    passes = 0

    def counts(self, batch: Points, phase: str = "main") -> dict[str, float]:
        return {"squares": float(batch.count_B.sum()), "size": float(batch.num_samples)}

    def losses(self, batch: Points, phase: str = "main") -> Losses:
        self.passes += 1
        return super().losses(batch, phase)


def test_declared_counts_save_the_passes_that_would_count() -> None:
    task, batch = Declared().double(), points(7)
    backward(task, batch.split(2), "main")
    assert task.passes == 4
    plain = LineTask().double()
    plain.load_state_dict(task.state_dict())
    backward(plain, batch.split(2), "main")
    assert_same(gradients(task), gradients(plain))


def contrastive(module: Any) -> tuple[Task[Any], Any]:
    """A tiny CLIP or SigLIP in float64 with a batch of eight pairs."""
    torch.manual_seed(5)
    source = Scenes("train", PAIRS, SceneConfig(size=32, objects=2))
    task = module.tiny_tasks([source[i] for i in range(PAIRS)])["contrastive"]
    (batch,) = evaluation_batches(source, task.processor, PAIRS, threads=1)
    return task.double(), batch


def scattered(batch: Any, sizes: Sequence[int]) -> list[Any]:
    """Micro-batches of any sizes, in order."""
    ones = batch.split(1)
    assert sum(sizes) == len(ones)
    return [batch.part(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes))]


@pytest.mark.parametrize("module", [clip, siglip], ids=["clip", "siglip"])
def test_gradient_caching_equals_the_whole_batch(module: Any) -> None:
    task, batch = contrastive(module)
    loss = total(task.losses(batch))
    loss.backward()  # type: ignore[no-untyped-call]
    expected = gradients(task)
    scalars = {"model.log_scale"} | ({"model.bias"} if module is siglip else set())
    assert {name for name, gradient in expected.items() if gradient.ndim == 0} == scalars
    assert all(abs(float(expected[name])) > 1e-4 for name in scalars)
    for sizes in ((8,), (4, 4), (3, 3, 2), (1, 6, 1), (1,) * 8):
        task.zero_grad()
        losses = backward(task, scattered(batch, sizes), "main")
        assert losses.keys() == {"contrastive", "loss"}
        torch.testing.assert_close(losses["loss"], loss.detach(), rtol=1e-12, atol=0)
        assert_same(gradients(task), expected, rtol=1e-10)


def test_the_scalars_of_siglip_have_their_closed_form() -> None:
    task, batch = contrastive(siglip)
    backward(task, batch.split(3), "main")
    with torch.no_grad():
        found = task.features(batch).features  # type: ignore[operator]
        cosine_NN = found["image"] @ found["text"].T
        model: Any = task.model
        wrong_NN = torch.sigmoid(model.log_scale.exp() * cosine_NN + model.bias) - torch.eye(PAIRS).double()
    torch.testing.assert_close(model.bias.grad, wrong_NN.sum() / PAIRS, rtol=1e-10, atol=0)
    by_scale = model.log_scale.exp().detach() * (wrong_NN * cosine_NN).sum() / PAIRS
    torch.testing.assert_close(model.log_scale.grad, by_scale, rtol=1e-10, atol=0)
