"""Adapters of language models in models of the room: what is trained, saved, loaded and merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from diptych.adapters.language import LanguageAdapterConfig, Method
from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.core.sampling import TextSampling
from diptych.data.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._tiny_parts import tiny_parts
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm

SOURCE = Scenes("train", 6, SceneConfig(32, 1, words=0.0))
METHODS: tuple[Method, ...] = ("lora", "dora", "vera")


def task_with(method: Method, language: str = "llama", trained: Trained | None = None) -> llava.LlavaTask:
    """LLaVA of random parts whose adapter is filled with noise."""
    torch.manual_seed(0)
    processor, tower, own = tiny_parts([SOURCE[index] for index in range(6)], 4)
    model: LanguageModel = own
    if language != "llama":
        sizes = transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=2, n_positions=300, vocab_size=processor.tokenizer.vocab_size
        )
        model = TransformersLm(transformers.GPT2LMHeadModel(sizes).eval()).eval()
    config = llava.Config(ConnectorConfig("average", queries=4), -1, adapter=LanguageAdapterConfig(method, 4, 8.0))
    task = llava.LlavaTask(config, processor, tower, model, trained or Trained(language=True))
    for name in task.model.adapter:
        nn.init.normal_(task.model.language.get_parameter(name), std=0.2)
    return task


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("language", ["llama", "gpt2"])
def test_merged_saved_and_loaded_it_says_the_same(method: Method, language: str, tmp_path: Path) -> None:
    model = task_with(method, language).predictor()
    model.module.double().eval()
    images, texts = [SOURCE[0].image, SOURCE[1].image], ["a red circle", "two"]
    wanted = model.text_likelihood(images, ["what?", "how many?"], texts).log_N
    plain = model.merged()
    torch.testing.assert_close(
        plain.text_likelihood(images, ["what?", "how many?"], texts).log_N, wanted, rtol=0, atol=1e-10
    )
    assert not [name for name, _ in plain.module.named_parameters() if "lora" in name or "vera" in name]
    model.module.float()
    for one, folder in ((model, tmp_path / "adapted"), (plain, tmp_path / "plain")):
        one.module.float()
        folder.mkdir()
        write_model(one, folder)
        again = load(folder)
        asked = [[SOURCE[3].image, "what colour?"]]
        assert again.generate_text(asked, TextSampling(6)) == one.generate_text(asked, TextSampling(6))
    with pytest.raises(ConfigError, match="no adapter that could be merged"):
        plain.merged()


@pytest.mark.parametrize("language", ["llama", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_the_adapter_alone_is_trained_of_the_language_model(method: Method, language: str) -> None:
    task = task_with(method, language).train()
    trained = {name for group in task.trainable()["main"] for name in group.parameters}
    adapter = {f"model.language.{name}" for name in task.model.adapter}
    assert trained == adapter | {name for name, _ in task.named_parameters() if name.startswith("model.connector.")}
    assert not any(part.training for part in task.model.language.modules())  # no dropout of what is frozen
    before = {name: one.detach().clone() for name, one in task.named_parameters()}
    optimizer = torch.optim.SGD([one for one in task.parameters() if one.requires_grad], lr=0.1)
    batch = next(iter(EvaluationBatches(SOURCE, task.processor, 6, 1, 0.0)))
    task.losses(batch)["answers"].sum.backward()
    optimizer.step()
    assert {name for name, one in task.named_parameters() if not torch.equal(one, before[name])} == trained


def test_an_adapter_waits_for_its_round() -> None:
    """In a round that trains the connector alone the adapter is there, so that the next one takes the weights over."""
    first, second = task_with("lora", trained=Trained()), task_with("lora")
    names = {name for group in first.trainable()["main"] for name in group.parameters}
    assert {name.split(".")[1] for name in names} == {"connector"}
    second.load_state_dict(first.state_dict())
