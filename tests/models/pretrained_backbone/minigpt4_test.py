"""MiniGPT-4: one map is trained, of the size that the paper says, and how it is asked."""

from __future__ import annotations

import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.core.sample import Turn
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.pretrained_backbone import blip2, minigpt4
from diptych.models.pretrained_backbone._prefixed import Trained

SOURCE = Scenes("train", 8, SceneConfig(32, 1, words=0.0))
SAMPLES = [SOURCE[index] for index in range(8)]


def tiny(kind: str) -> minigpt4.MiniGpt4Task:
    torch.manual_seed(0)
    task = minigpt4.tiny_tasks(SAMPLES)[kind]
    task.model.set_trained(Trained())
    return task


@pytest.mark.parametrize(("kind", "channels"), [("queries", 64), ("features", 32)])
def test_the_map_alone_is_trained(kind: str, channels: int) -> None:
    task = tiny(kind).train()
    trained = {name: one for group in task.trainable()["main"] for name, one in group.parameters.items()}
    assert set(trained) == {"model.connector.map.weight", "model.connector.map.bias"}
    assert sum(one.numel() for one in trained.values()) == channels * 64 + 64
    before = {name: one.detach().clone() for name, one in task.state_dict().items()}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    batch = next(iter(EvaluationBatches(SOURCE, task.processor, 8, 1, 0.0)))
    task.losses(batch)["answers"].sum.backward()
    optimizer.step()
    assert {name for name, one in task.state_dict().items() if not torch.equal(one, before[name])} == set(trained)


def test_of_the_papers_sizes_it_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        bridge = minigpt4.Config().bridge(257, 1408, 4096).requires_grad_(True)
    assert sum(one.numel() for one in bridge.parameters() if one.requires_grad) == 768 * 4096 + 4096
    assert minigpt4.Config().tokens(257) == 32
    with pytest.raises(ConfigError, match=r"24 wide, and qformer\.image_width is 1408"):
        minigpt4.Config().bridge(257, 24, 4096)


def test_the_q_former_is_that_of_the_first_stage() -> None:
    """The queries' outputs are what the first stage sees, mapped."""
    torch.manual_seed(1)
    first = blip2.tiny_tasks(SAMPLES)["first_stage"].eval()
    task = tiny("queries").eval()
    task.model.connector.take_first_stage(first.state_dict())
    features_BSC = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(2))
    wanted = task.model.connector.map(first.model.qformer.see(first.model.norm(features_BSC)))
    torch.testing.assert_close(task.model.connector(features_BSC), wanted)


def test_the_template_is_the_papers() -> None:
    turns = [Turn("user", "<image>\nwhat is this?"), Turn("assistant", "a cat")]
    made = minigpt4.template("###")
    assert made.render(turns[:1], opens=True) == "###Human: <Img><image></Img> what is this? ###Assistant:"
    assert made.render(turns, opens=False) == "###Human: <Img><image></Img> what is this? ###Assistant: a cat###"
    processor = tiny("queries").processor
    read = processor.read(turns, 1, "k")
    shown = read.places.index(True)
    assert sum(read.places) == 4 and processor.tokenizer.decode(read.tokens[:shown]).strip().endswith("<img>")
    learned = [token for token, label in zip(read.tokens, read.labels, strict=True) if label == token]
    assert processor.tokenizer.decode(learned).strip() == "a cat"
