"""Flamingo: gates, what a word sees, four language models, decoding by a cache, what is trained, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_public import randomise
from torch import Tensor

from diptych.adapters.language import LanguageAdapterConfig
from diptych.core.errors import ConfigError, DiptychError
from diptych.core.sampling import TextSampling
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.connectors import ConnectorConfig
from diptych.layers.gated_cross_attention import GatedCrossConfig
from diptych.layers.weight_hash import weight_hash
from diptych.models.pretrained_backbone import flamingo
from diptych.models.pretrained_backbone._interleaved import plain_template
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._tiny_parts import tiny_encoder_decoder, tiny_parts

SOURCE = Scenes("train", 8, SceneConfig(32, 1, words=0.0))
SAMPLES = [SOURCE[index] for index in range(8)]
IMAGES = [sample.image for sample in SAMPLES[:3]]
PROMPTS = [[IMAGES[0], "a red circle", IMAGES[1], "a"], ["nothing is shown"], ["a", IMAGES[2], "or", IMAGES[0], "is"]]
CONFIG = flamingo.Config(
    ConnectorConfig("resampler", queries=4, depth=1, heads=2), GatedCrossConfig(heads=2, head_width=16, hidden=2)
)
_SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 128,
}  # fmt: skip


def public(kind: str, vocabulary: int) -> Any:
    """A configuration of each architecture that is claimed."""
    common: dict[str, Any] = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    match kind:
        case "llama":
            return transformers.LlamaConfig(**common, **_SIZES, num_key_value_heads=2)
        case "opt":
            return transformers.OPTConfig(
                **common, hidden_size=32, ffn_dim=48, num_hidden_layers=3, num_attention_heads=4, dropout=0.0,
                word_embed_proj_dim=24, max_position_embeddings=128,
            )  # fmt: skip
        case "gpt2":
            return transformers.GPT2Config(
                **common, n_embd=32, n_layer=3, n_head=4, n_positions=128, resid_pdrop=0.0, embd_pdrop=0.0,
                attn_pdrop=0.0,
            )  # fmt: skip
        case _:
            return transformers.Qwen2Config(**common, **_SIZES, num_key_value_heads=2)


KINDS = ("llama", "opt", "gpt2", "qwen2")


def built(folder: Path, kind: str, every: int = 1) -> flamingo.FlamingoTask:
    """On a language model of a folder, every weight random, gates at 0."""
    torch.manual_seed(0)
    processor, tower, _ = tiny_parts(SAMPLES, 1, plain_template("<end>"), pictures=4)
    model: Any = transformers.AutoModelForCausalLM.from_config(public(kind, processor.tokenizer.vocab_size))
    randomise(model)
    model.eval().save_pretrained(folder)
    config = flamingo.Config(CONFIG.resampler, GatedCrossConfig(every, 2, 16, 2))
    return flamingo.FlamingoTask(config, processor, tower, read_language(folder), Trained())


def gated(task: flamingo.FlamingoTask, attention: float, mlp: float) -> flamingo.FlamingoTask:
    with torch.no_grad():
        for number, crossing in enumerate(task.model.gated_blocks()):
            crossing.attention_gate.fill_(attention * (1 + 0.1 * number))
            crossing.mlp_gate.fill_(mlp)
    return task


def opened(task: flamingo.FlamingoTask) -> flamingo.FlamingoTask:
    """With its gates open, each otherwise."""
    return gated(task, 0.7, -0.4)


def batch_of(task: flamingo.FlamingoTask) -> Any:
    return next(iter(EvaluationBatches(SOURCE, task.processor, 8, 1, 0.0)))


@pytest.mark.parametrize("kind", KINDS)
def test_with_its_gates_at_0_it_is_the_language_model_exactly(tmp_path: Path, kind: str) -> None:
    task = built(tmp_path, kind).eval()
    batch, language = batch_of(task), task.model.language
    with torch.inference_mode():
        found = task.model(batch)
        alone = language.said(language.embed(batch.tokens_BT), batch.lengths_B, batch.labels_BT)
        assert torch.equal(found.states_BAD, alone.states_BAD) and torch.equal(found.labels_BA, alone.labels_BA)
        told = opened(task).model(batch).states_BAD
    assert float((told - alone.states_BAD).abs().max()) > 1e-2  # and with open ones it is not


@pytest.mark.parametrize("kind", KINDS)
def test_texts_by_a_cache_are_those_of_a_pass_without_one(tmp_path: Path, kind: str) -> None:
    """Prompts of several pictures, of none, of other lengths; every second block reads."""
    model = opened(built(tmp_path, kind, every=2)).predictor()
    assert len(model.module.crossings) == 2
    found = model.generate_text(PROMPTS, TextSampling(5))
    for prompt, said in zip(PROMPTS, found, strict=True):
        assert said == greedy(model, prompt, 5)
    assert model.generate_text(PROMPTS, TextSampling(4, beams=3)) == [
        model.generate_text([prompt], TextSampling(4, beams=3))[0] for prompt in PROMPTS
    ]


def greedy(model: flamingo.FlamingoPredictor, prompt: Sequence[Any], most: int) -> str:
    """Read anew for every token, by the pass that training uses."""
    read, words = model._opened(prompt), model.processor.tokenizer
    pictures, ids = [part for part in prompt if not isinstance(part, str)], list[int]()
    for _ in range(most):
        so_far = read._replace(
            tokens=read.tokens + ids, labels=read.labels + ids, places=read.places + [False] * len(ids)
        )
        with torch.inference_mode():
            token = int(model.module.logits(model.said([so_far], pictures).states_BAD[0, -1]).argmax())
        if token == words.end_id:
            break
        ids.append(token)
    return words.decode(ids).strip()


def test_a_word_looks_at_the_last_picture_before_it_only() -> None:
    """What the first block adds: of one picture changed, only the words between it and the next are."""
    module = tiny().model
    places = torch.tensor([[0, 0, 1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0], [0] * 8]).bool()
    seen, other = torch.randn(4, 4, 32), torch.randn(4, 4, 32)
    x = torch.randn(3, 8, 64)
    segments = [(0, 2, 5), (0, 5, 8), (1, 1, 2), (1, 2, 8)]

    def added(seen_NQC: Tensor) -> Tensor:
        sight = module.sight(seen_NQC, places)
        with torch.no_grad():
            out: Tensor = module.crossings[0](x, *sight.known[0], sight.mask_BTS)
        return out

    before = added(seen)
    for picture, (row, begin, end) in enumerate(segments):
        changed = seen.clone()
        changed[picture] = other[picture]
        wanted = torch.zeros(3, 8, dtype=torch.bool)
        wanted[row, begin:end] = True
        assert torch.equal((added(changed) - before).abs().amax(2) > 1e-6, wanted)


def test_a_text_knows_of_every_picture_before_it_and_of_none_behind() -> None:
    """Through the language model; padding and the other rows change nothing."""
    model = tiny().predictor()
    read = [model._opened(prompt) for prompt in PROMPTS]
    pictures = [IMAGES[0], IMAGES[1], IMAGES[2], IMAGES[0]]

    def states(shown: Sequence[Any]) -> Tensor:
        with torch.inference_mode():
            return model.said(read, shown).states_BAD

    before = states(pictures)
    for place, (row, which) in enumerate([(0, 0), (0, 1), (2, 0), (2, 1)]):
        changed = (states([*pictures[:place], SAMPLES[5].image, *pictures[place + 1 :]]) - before).abs().amax(2) > 1e-6
        begin = [at for at, there in enumerate(read[row].places) if there][which]
        assert changed[row, begin : len(read[row].tokens)].all() and not changed[row, :begin].any()
        assert not changed[[other for other in range(3) if other != row]].any()


def test_likelihoods_of_prompts_are_those_of_pictures_with_prompts_and_add_up() -> None:
    model = tiny().predictor()
    texts = ["a red circle", "blue"]
    found = model.prompt_likelihood([[IMAGES[0], "what?"], ["what?"]], texts)
    wanted = model.text_likelihood([IMAGES[0], None], ["what?", "what?"], texts)
    assert torch.equal(found.log_N, wanted.log_N) and torch.equal(found.counts_N, wanted.counts_N)
    read = model._answered([IMAGES[0], "what?"], texts[0])
    with torch.inference_mode():
        logits = model.module.logits(model.said([read], [IMAGES[0]]).states_BAD[0])
    steps = [float(logits[at - 1].log_softmax(-1)[label]) for at, label in enumerate(read.labels) if label >= 0]
    assert float(found.log_N[0]) == pytest.approx(sum(steps), abs=1e-4) and int(found.counts_N[0]) == len(steps)
    examples = [[IMAGES[0], "a dax", IMAGES[1], "a wug", shown, "a"] for shown in IMAGES[:2]]
    first, second = model.prompt_likelihood(examples, ["dax", "dax"]).log_N.tolist()
    assert first != second
    with pytest.raises(DiptychError, match="5 pictures, and at most 4 fit"):
        model.prompt_likelihood([[IMAGES[0]] * 5], ["a"])
    with pytest.raises(DiptychError):
        model.prompt_likelihood([[IMAGES[0]]], ["a", "b"])


def test_resampler_and_gated_blocks_are_all_that_is_trained() -> None:
    task = tiny().train()
    names = {name for group in task.trainable()["main"] for name in group.parameters}
    assert {name.split(".")[1] for name in names} == {"connector", "crossings", "picture_keys"}
    language, tower = task.model.language, task.model.tower
    was = weight_hash(language), weight_hash(tower)
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    batch = batch_of(task)
    for _ in range(2):
        optimizer.zero_grad()
        task.losses(batch)["answers"].sum.backward()
        optimizer.step()
    assert (weight_hash(language), weight_hash(tower)) == was and not language.training
    assert all(p.grad is None for p in (*language.parameters(), *tower.parameters()))


def test_closed_gates_are_the_first_to_learn() -> None:
    task = gated(tiny(), 0.0, 0.0).train()
    task.losses(batch_of(task))["answers"].sum.backward()
    for crossing in task.model.gated_blocks():
        gates, behind = (crossing.attention_gate.grad, crossing.mlp_gate.grad), crossing.out.weight.grad
        assert all(gate is not None and float(gate.abs()) > 0 for gate in gates)
        assert behind is not None and float(behind.abs().max()) == 0


def tiny() -> flamingo.FlamingoTask:
    torch.manual_seed(0)
    return opened(flamingo.tiny_tasks(SAMPLES)["flamingo"])


def test_what_does_not_fit_is_refused() -> None:
    processor, tower, language = tiny_parts(SAMPLES, 1, plain_template("<end>"), pictures=4)
    with pytest.raises(ConfigError, match="of Flamingo's language model nothing is trained"):
        flamingo.Config(adapter=LanguageAdapterConfig("lora"))
    with pytest.raises(ConfigError, match="every size of a gated block"):
        GatedCrossConfig(every=0)
    with pytest.raises(ConfigError, match="see one another's pictures"):
        flamingo.FlamingoTask(CONFIG, processor, tower, language, Trained(), packed=64)
    both = tiny_encoder_decoder(processor.tokenizer)
    with pytest.raises(ConfigError, match="between the blocks of a causal language model"):
        flamingo.FlamingoTask(CONFIG, processor, tower, both, Trained())
    two, tower, language = tiny_parts(SAMPLES, 2, plain_template("<end>"))
    with pytest.raises(ConfigError, match="set slots to 1"):
        flamingo.FlamingoTask(CONFIG, two, tower, language, Trained())
