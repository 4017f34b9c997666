"""`--checkpointing` recomputes activations: the same gradients, with fewer tensors kept for the backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.task import Batch, Task
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.contrastive import clip, siglip
from diptych.models.supervised import vit_classifier
from diptych.training.backward import backward

SAMPLES = [Scenes("train", 8, SceneConfig(size=32, objects=1))[i] for i in range(8)]


def gradients(task: Task[Batch], batch: Batch, recompute: bool) -> tuple[dict[str, Tensor], int]:
    """Gradients by name, and the bytes that the forward pass saved."""
    saved = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    task.checkpoint_activations(recompute)
    task.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backward(task, [batch], "main")
    return {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}, saved


@pytest.mark.parametrize("module", [clip, siglip, vit_classifier])
def test_recomputing_gives_the_same_gradients(module: object) -> None:
    task = next(iter(module.tiny_tasks(SAMPLES).values()))  # type: ignore[attr-defined]
    source = Scenes("train", 8, SceneConfig(size=32, objects=1))
    (batch,) = evaluation_batches(source, task.processor, 8, threads=1)
    kept, kept_bytes = gradients(task, batch, False)
    recomputed, recomputed_bytes = gradients(task, batch, True)
    assert kept and kept.keys() == recomputed.keys()
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-5, atol=1e-7)
    assert recomputed_bytes < 0.8 * kept_bytes


def test_a_task_that_cannot_says_so() -> None:
    (task,) = vit_classifier.tiny_tasks(SAMPLES).values()
    with pytest.raises(ConfigError, match="VitClassifierTask cannot recompute activations"):
        Task.checkpoint_activations(task, True)  # what a task has that says nothing of its own
