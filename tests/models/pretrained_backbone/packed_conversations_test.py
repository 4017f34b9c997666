"""Conversations that share rows: loss and gradients of a row each, whatever stands beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._tiny_parts import tiny_encoder_decoder, tiny_parts

SOURCE = Scenes("train", 9, SceneConfig(32, 1))
CONFIG = llava.Config(ConnectorConfig("average", queries=4), layer=-1)


@pytest.fixture(scope="module")
def made() -> tuple[llava.LlavaTask, ConversationBatch]:
    torch.manual_seed(0)
    parts = tiny_parts([SOURCE[index] for index in range(9)], 4)
    task = llava.LlavaTask(CONFIG, *parts, Trained(language=True)).double().eval()
    return task, next(iter(EvaluationBatches(SOURCE, task.processor, 9, 1, 0.0)))


def loss_and_gradients(task: llava.LlavaTask, batch: ConversationBatch, room: int) -> tuple[float, list[torch.Tensor]]:
    task.model.set_packed(room)
    task.zero_grad()
    part = task.losses(batch)["answers"]
    part.sum.backward()
    task.model.set_packed(0)
    return float(part.sum.detach()), [one.grad.clone() for one in task.parameters() if one.grad is not None]


@pytest.mark.parametrize("room", [128, 256])
def test_loss_and_gradients_are_those_of_a_row_each(made: tuple[llava.LlavaTask, ConversationBatch], room: int) -> None:
    task, batch = made
    assert batch.lengths_B.min() < batch.lengths_B.max() and 2 * int(batch.lengths_B.min()) < room
    wanted, gradients = loss_and_gradients(task, batch, 0)
    found, others = loss_and_gradients(task, batch, room)
    assert found == pytest.approx(wanted, rel=0, abs=1e-10)
    assert len(gradients) == len(others) > 10
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-10)


def test_micro_batches_and_neighbours_change_nothing(made: tuple[llava.LlavaTask, ConversationBatch]) -> None:
    task, batch = made
    wanted, _ = loss_and_gradients(task, batch, 256)
    parts = [loss_and_gradients(task, part, 256)[0] for part in batch.split(4)]
    assert sum(parts) == pytest.approx(wanted, rel=0, abs=1e-10)
    words = batch.tokens_BT.clone()
    words[1] = words[1].roll(1)  # another conversation says something else
    task.model.set_packed(256)
    said, again = task.model(batch), task.model(replace(batch, tokens_BT=words))
    task.model.set_packed(0)
    first = int(batch.lengths_B[0])
    assert torch.equal(said.states_BAD[0, :first], again.states_BAD[0, :first])
    assert not torch.equal(said.states_BAD, again.states_BAD)


def test_other_language_models_are_refused() -> None:
    processor, tower, _ = tiny_parts([SOURCE[index] for index in range(3)], 4)
    other = tiny_encoder_decoder(processor.tokenizer)
    with pytest.raises(ConfigError, match="cannot share rows in this language model"):
        llava.LlavaTask(CONFIG, processor, tower, other, Trained(language=True), packed=128)
