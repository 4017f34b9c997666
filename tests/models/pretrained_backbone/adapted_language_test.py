"""Adapters of language models in models of the room: what is trained, saved, loaded and merged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn

from diptych.adapters.four_bit import FourBitLinear
from diptych.adapters.language import LanguageAdapterConfig, Method
from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError, TextTooLong
from diptych.core.sampling import TextSampling
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._adapted_language import PromptedLanguage, adapted
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._tiny_parts import tiny_encoder_decoder, tiny_parts
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm

SOURCE = Scenes("train", 6, SceneConfig(32, 1, words=0.0))
METHODS: tuple[Method, ...] = ("lora", "qlora", "dora", "vera")


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
    torch.testing.assert_close(  # what is held in 4 bits computes in float32 at the most
        plain.text_likelihood(images, ["what?", "how many?"], texts).log_N, wanted, rtol=0,
        atol=1e-4 if method == "qlora" else 1e-10,
    )  # fmt: skip
    assert not [part for part in plain.module.modules() if isinstance(part, FourBitLinear)]
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
    before = {name: one.detach().clone() for name, one in task.state_dict().items()}
    optimizer = torch.optim.SGD([one for one in task.parameters() if one.requires_grad], lr=0.1)
    batch = next(iter(EvaluationBatches(SOURCE, task.processor, 6, 1, 0.0)))
    task.losses(batch)["answers"].sum.backward()
    optimizer.step()
    assert {name for name, one in task.state_dict().items() if not torch.equal(one, before[name])} == trained


@pytest.mark.parametrize("language", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("method", "name", "sizes"), [("prompt", "prompt_PD", 1), ("prefix", "known.encoder.embedding.weight", 4)]
)
def test_what_is_learned_stands_before_all_that_is_read(
    method: Method, name: str, sizes: int, language: str, tmp_path: Path
) -> None:
    """It alone is trained of the language model; texts are written, saved and loaded with it."""
    task = task_with(method, language).train()
    trained = {name for group in task.trainable()["main"] for name in group.parameters}
    assert {one for one in trained if ".language." in one} == {f"model.language.{name}"}
    assert task.model.language.get_parameter(name).shape == (16, sizes * task.model.language.width)  # layers, two each
    batch = next(iter(EvaluationBatches(SOURCE, task.processor, 6, 1, 0.0)))
    task.losses(batch)["answers"].sum.backward()
    grad = task.model.language.get_parameter(name).grad
    assert grad is not None and bool((grad.abs().sum(1) > 0).all())
    model = task.predictor()
    model.module.eval()
    asked = [[SOURCE[3].image, "what colour?"], [SOURCE[1].image, "what is in the top left, if anything?"]]
    said = model.generate_text(asked, TextSampling(6))
    assert said == [model.generate_text([one], TextSampling(6))[0] for one in asked]
    write_model(model, tmp_path)
    assert load(tmp_path).generate_text(asked, TextSampling(6)) == said
    with pytest.raises(ConfigError, match=f"its method is {method}"):
        model.merged()


def test_learned_vectors_are_those_of_peft() -> None:
    task = task_with("prompt", "gpt2")
    prompted = task.model.language.double()
    assert isinstance(prompted, PromptedLanguage) and isinstance(prompted.language, TransformersLm)
    theirs: Any = peft.get_peft_model(
        copy.deepcopy(prompted.language.model), peft.PromptTuningConfig("CAUSAL_LM", num_virtual_tokens=16)
    ).eval()
    theirs.prompt_encoder.default.embedding.weight.data = prompted.prompt_PD.data.clone()
    theirs.double()
    x = torch.randn(2, 7, prompted.width, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(14).view(2, 7)
    said = prompted.said(x, torch.tensor([7, 7]), labels)
    wanted = theirs(inputs_embeds=x, attention_mask=torch.ones(2, 7)).logits
    torch.testing.assert_close(prompted.logits(said.states_BAD), wanted, rtol=0, atol=1e-10)
    assert said.labels_BA[:, 15:22].tolist() == labels.tolist()  # from the last learned vector on
    rows = [x[0], x[1, :4]]
    first = prompted.decoder(rows, 20).next_logits(None)
    torch.testing.assert_close(first[0], wanted[0, -1], rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match=r"adapter\.tokens 300 leave no room"):
        PromptedLanguage(prompted.language, 300)


def _public(kind: str) -> Any:
    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}  # fmt: skip
    if kind == "gpt2":
        config: Any = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, vocab_size=40)
        return transformers.GPT2LMHeadModel(config)
    if kind == "qwen2":
        return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**sizes))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_learned_keys_and_values_are_those_of_peft(kind: str, tmp_path: Path) -> None:
    """On our own trunk (Llama) and on models of transformers: logits, gradients, rows of any length, further tokens."""
    torch.manual_seed(0)
    plain = _public(kind)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.3)
    plain.eval().save_pretrained(tmp_path)
    ours, names = adapted(read_language(tmp_path), LanguageAdapterConfig("prefix", tokens=3))
    ours.double()
    settings = peft.PrefixTuningConfig("CAUSAL_LM", num_virtual_tokens=3)
    theirs: Any = peft.get_peft_model(plain.double(), settings).eval().double()
    assert {name for name, _ in ours.named_parameters()} >= names and len(names) == 1
    table = ours.get_parameter(next(iter(names)))
    theirs.prompt_encoder.default.embedding.weight.data = table.data.clone()
    x = torch.randn(2, 7, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(14).view(2, 7)
    said = ours.said(x, torch.tensor([7, 4]), labels)
    found = ours.logits(said.states_BAD)
    wanted = theirs(inputs_embeds=x, attention_mask=torch.ones(2, 7)).logits
    for row, length in enumerate((7, 4)):  # rotary angles are float32 on both sides
        torch.testing.assert_close(found[row, :length], wanted[row, :length], rtol=0, atol=1e-5)
    found[0].square().sum().backward()
    wanted[0].square().sum().backward()
    expected = theirs.prompt_encoder.default.embedding.weight.grad
    torch.testing.assert_close(table.grad, expected, rtol=1e-4, atol=1e-4)
    assert said.labels_BA[0, :6].tolist() == labels[0, 1:].tolist()
    with torch.inference_mode():
        decoder = ours.decoder([x[0], x[1, :4], x[1]], 20)
        first = decoder.next_logits(None)
        torch.testing.assert_close(first, wanted.detach()[[0, 1, 1], [-1, 3, -1]], rtol=0, atol=1e-5)
        decoder.select(torch.tensor([2, 0, 2]))  # the row of four tokens goes, and one stands twice
        token = torch.tensor([5, 6, 7])
        longer = torch.cat([x[[1, 0, 1]], ours.embed(token[:, None])], dim=1)
        whole = theirs(inputs_embeds=longer, attention_mask=torch.ones(3, 8)).logits[:, -1]
        torch.testing.assert_close(decoder.next_logits(token), whole, rtol=0, atol=1e-5)
    with pytest.raises(TextTooLong, match="10 tokens leaves no room"):
        ours.decoder([x[0]], 7)


def test_a_prefix_that_cannot_be() -> None:
    task = task_with("prompt", "gpt2")
    with pytest.raises(ConfigError, match=r"adapter\.tokens 300 leave no room"):
        adapted(task.model.language.language, LanguageAdapterConfig("prefix", tokens=300))
    words = task.processor.tokenizer
    with pytest.raises(ConfigError, match="before what a causal model reads"):
        adapted(tiny_encoder_decoder(words), LanguageAdapterConfig("prefix"))


def test_an_adapter_waits_for_its_round() -> None:
    """In a round that trains the connector alone the adapter is there, so that the next one takes the weights over."""
    first, second = task_with("lora", trained=Trained()), task_with("lora")
    names = {name for group in first.trainable()["main"] for name in group.parameters}
    assert {name.split(".")[1] for name in names} == {"connector"}
    second.load_state_dict(first.state_dict())
