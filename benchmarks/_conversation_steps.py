"""One training step on conversations, of a model of transformers and of ours, with the same optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from diptych.core.task import Task, decay_groups
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.training.backward import backward
from diptych.training.optimizer import AdamWConfig

OPTIMIZER = AdamWConfig(lr=1e-4, weight_decay=0.0)
Step = Callable[[ConversationBatch], float]


def library_step(model: Any, trained: Callable[[str], bool]) -> Step:
    """With our optimizer and its fused kernel, and the loss that the model returns.

    Args:
        trained: whether a parameter of this name is.
    """
    model = copy.deepcopy(model).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained(name))
    optimizer = OPTIMIZER.build(decay_groups(model))

    def step(batch: ConversationBatch) -> float:
        optimizer.zero_grad()
        inside_BT = torch.arange(batch.tokens_BT.shape[1]) < batch.lengths_B[:, None]
        loss = model(
            input_ids=batch.tokens_BT, pixel_values=batch.pixels_NCHW, attention_mask=inside_BT.long(),
            labels=batch.labels_BT,
        ).loss  # fmt: skip
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def trainer_step(task: Task[ConversationBatch]) -> Step:
    """As diptych's trainer."""
    task.train()
    (groups,) = task.trainable().values()
    optimizer = OPTIMIZER.build(groups)

    def step(batch: ConversationBatch) -> float:
        optimizer.zero_grad(set_to_none=True)
        losses = backward(task, [batch], seed=(0,))
        optimizer.step()
        task.after_step()
        return float(losses["loss"])

    return step
