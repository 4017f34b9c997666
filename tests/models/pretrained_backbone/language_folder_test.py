"""Language models read from folders, against `transformers` itself: states, logits, gradients, greedy texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_public import randomise

from diptych.core.errors import ConfigError, DiptychError, TextTooLong
from diptych.core.sampling import TextSampling
from diptych.decoding.write import write
from diptych.models.pretrained_backbone._language_folder import language_from_config, read_language
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._llama import Llama, public_state
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm

VOCABULARY, WIDTH = 60, 32
_COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_LLAMA: dict[str, Any] = {
    **_COMMON, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
KINDS: dict[str, Any] = {
    "llama": transformers.LlamaConfig(**_LLAMA, num_key_value_heads=2),
    "llama, tied": transformers.LlamaConfig(**_LLAMA, tie_word_embeddings=True, rms_norm_eps=1e-5),
    "opt": transformers.OPTConfig(
        **_COMMON, hidden_size=WIDTH, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, dropout=0.0,
        word_embed_proj_dim=24, max_position_embeddings=64,
    ),
    "gpt2": transformers.GPT2Config(
        **_COMMON, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    ),
    "qwen2": transformers.Qwen2Config(**_LLAMA, num_key_value_heads=2),
}  # fmt: skip


def saved(folder: Path, kind: str) -> Any:
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_config(KINDS[kind])
    randomise(model)
    model.eval().save_pretrained(folder)
    return model.double()


def read(folder: Path) -> LanguageModel:
    return read_language(folder).double()


@pytest.mark.parity(
    ("frozen", "minigpt4", "minigpt_v2"),
    "transformers causal language models",
    "the language model's logits, gradients",
    part=True,
)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    """Of vectors, padded at the right; the padding is seen by nobody."""
    theirs, ours = saved(tmp_path, kind), read(tmp_path)
    assert isinstance(ours, Llama if kind.startswith("llama") else TransformersLm)
    assert (ours.vocabulary, ours.context) == (VOCABULARY, 64)
    tokens = torch.randint(3, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([9, 4, 6])
    seen = torch.arange(9) < lengths[:, None]
    torch.testing.assert_close(ours.embed(tokens), theirs.get_input_embeddings()(tokens))
    x = ours.embed(tokens).detach().requires_grad_()
    other = x.detach().clone().requires_grad_()
    found = ours.logits(ours(x, lengths))[seen]
    wanted = theirs(inputs_embeds=other, attention_mask=seen.long()).logits[seen]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)  # rotary angles are float32 on both sides
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=found.dtype)
    (found * weight).sum().backward()
    (wanted * weight).sum().backward()
    scale = float(other.grad.abs().max())
    torch.testing.assert_close(x.grad[seen] / scale, other.grad[seen] / scale, rtol=1e-4, atol=1e-5)
    assert float(x.grad[~seen].abs().max()) == 0
    changed = x.detach().clone()
    changed[~seen] = 100.0
    torch.testing.assert_close(ours.logits(ours(changed, lengths))[seen], found.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_texts_are_those_of_a_pass_without_a_cache(tmp_path: Path, kind: str) -> None:
    """Prompts of different lengths, rows that are dropped; each row alone, read anew for every token."""
    saved(tmp_path, kind)
    ours = read(tmp_path)
    prompts = [torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)) for n in (5, 2, 7)]
    with torch.inference_mode():
        rows = [ours.embed(prompt[None])[0] for prompt in prompts]
        found = write(ours.decoder(rows, 40), [12, 5, 9], TextSampling(12), ())
    for prompt, said, room in zip(prompts, found, (12, 5, 9), strict=True):
        ids = prompt.tolist()
        for token in said:
            with torch.inference_mode():
                x = ours.embed(torch.tensor([ids]))
                logits = ours.logits(ours(x, torch.tensor([len(ids)])))[0, -1]
            assert token == int(logits.argmax())
            ids.append(token)
        assert len(said) == room
    with pytest.raises(TextTooLong, match="7 tokens leaves no room"):
        ours.decoder(rows, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_is_enough_to_build_it_again(tmp_path: Path, kind: str) -> None:
    saved(tmp_path / "whole", kind)
    ours = read_language(tmp_path / "whole")
    ours.write_config(tmp_path / "sizes")
    again = language_from_config(tmp_path / "sizes")
    again.load_state_dict(ours.state_dict())
    x, lengths = torch.randn(1, 4, ours.embed(torch.tensor([[3]])).shape[2]), torch.tensor([4])
    torch.testing.assert_close(again.logits(again(x, lengths)), ours.logits(ours(x, lengths)))


def test_a_llama_is_written_as_it_was_read(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    ours = read_language(tmp_path)
    assert isinstance(ours, Llama)
    was, now = load_file(tmp_path / "model.safetensors"), public_state(ours)
    assert was.keys() == now.keys() and all(torch.equal(was[name], now[name]) for name in was)


def test_folders_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    plain, weights = json.loads((tmp_path / "config.json").read_text()), load_file(tmp_path / "model.safetensors")

    def refused(message: str, **changes: Any) -> None:
        (tmp_path / "config.json").write_text(json.dumps(plain | changes))
        with pytest.raises(DiptychError, match=message):
            read_language(tmp_path)

    refused("attention_bias True is not done", attention_bias=True)
    refused("scaled rotary", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})
    refused("do not make up a width", head_dim=16)
    refused("not of the shape", intermediate_size=40)
    save_file({name: one for name, one in weights.items() if "norm" not in name}, tmp_path / "model.safetensors")
    refused("lacks the weight")
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    refused("model.safetensors")
    with pytest.raises(DiptychError, match=r"lacks config\.json"):
        read_language(tmp_path / "nowhere")


def test_logits_that_are_changed_after_the_head_are_refused(tmp_path: Path) -> None:
    config = transformers.Gemma2Config(
        **_LLAMA, num_key_value_heads=2, head_dim=8, final_logit_softcapping=0.5, query_pre_attn_scalar=8
    )
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    randomise(model)
    with pytest.raises(ConfigError, match="Gemma2ForCausalLM changes its logits"):
        TransformersLm(model.eval())
