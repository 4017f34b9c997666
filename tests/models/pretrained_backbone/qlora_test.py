"""QLoRA in language models, against peft on what `transformers` itself loads in 4 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor, nn

from diptych.adapters.four_bit import FourBitLinear
from diptych.adapters.frozen import parameter_counts
from diptych.adapters.language import LanguageAdapterConfig
from diptych.models.pretrained_backbone._adapted_language import adapted
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._language_model import LanguageModel

WIDTH, RANK, ALPHA = 64, 4, 8.0
_SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
KINDS: dict[str, Any] = {
    "qwen2": transformers.Qwen2Config(**_SIZES, intermediate_size=96, num_key_value_heads=2),
    "opt": transformers.OPTConfig(**_SIZES, ffn_dim=96, dropout=0.0, word_embed_proj_dim=WIDTH),
    "gpt2": transformers.GPT2Config(
        n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64, vocab_size=60, bos_token_id=1, eos_token_id=2,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    ),
    "llama": transformers.LlamaConfig(**_SIZES, intermediate_size=128, num_key_value_heads=2),
}  # fmt: skip


def saved(folder: Path, kind: str) -> None:
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_config(KINDS[kind])
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)


def in_four_bits(folder: Path, twice: bool) -> Any:
    """The library's own."""
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=twice,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=settings, dtype=torch.float32, device_map="cpu"
    ).eval()


def ours_and_theirs(folder: Path, twice: bool) -> tuple[LanguageModel, Any, dict[str, str]]:
    """With LoRA in every map, of the same random numbers; and the names of its parameters, ours to theirs."""
    ours, names = adapted(read_language(folder), LanguageAdapterConfig("qlora", RANK, ALPHA, quantised_twice=twice))
    maps = sorted({name.removeprefix("model.").partition(".lora_")[0] for name in names})
    settings = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=maps)
    theirs: Any = peft.get_peft_model(in_four_bits(folder, twice), settings).eval()
    table = {name: f"base_model.{name}" for name in names}
    with torch.no_grad():
        for mine, other in table.items():
            theirs.get_parameter(other).copy_(nn.init.normal_(ours.get_parameter(mine), std=0.1))
    return ours, theirs, table


@pytest.mark.parity(("llava", "minigpt_v2"), "peft on transformers in 4 bits", "QLoRA's logits, gradients", part=True)
@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("kind", ["qwen2", "opt", "gpt2"])
def test_logits_and_gradients_are_those_of_peft_and_transformers(kind: str, twice: bool, tmp_path: Path) -> None:
    saved(tmp_path, kind)
    ours, theirs, table = ours_and_theirs(tmp_path, twice)
    held = [part for part in ours.modules() if isinstance(part, FourBitLinear)]
    assert 2 * len(held) == len(table) and len(held) >= 8
    x, mine = (torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    x.requires_grad_()  # else the library goes another way on some processors, in bf16
    mine.requires_grad_()
    wanted = theirs(inputs_embeds=x, attention_mask=torch.ones(2, 7)).logits
    found = ours.logits(ours.said(mine, torch.tensor([7, 7]), torch.zeros(2, 7, dtype=torch.long)).states_BAD)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    wanted.square().mean().backward()
    found.square().mean().backward()
    torch.testing.assert_close(mine.grad, x.grad, rtol=1e-4, atol=1e-6)
    for name, other in table.items():
        grad, expected = ours.get_parameter(name).grad, theirs.get_parameter(other).grad
        assert expected.abs().max() > 0
        torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-6)


def test_llama_on_our_own_trunk_is_the_library_s_in_4_bits(tmp_path: Path) -> None:
    """Quantised once: our maps stand for several of theirs, whose blocks of 64 weights are the same ones."""
    saved(tmp_path, "llama")
    ours, names = adapted(read_language(tmp_path), LanguageAdapterConfig("qlora", RANK, ALPHA, quantised_twice=False))
    theirs = in_four_bits(tmp_path, twice=False)
    x = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(1)).requires_grad_()
    said = ours.said(x, torch.tensor([7, 7]), torch.zeros(2, 7, dtype=torch.long))
    torch.testing.assert_close(
        ours.logits(said.states_BAD), theirs(inputs_embeds=x, use_cache=False).logits, rtol=0, atol=1e-5
    )
    assert {name.rpartition(".lora_")[0].rpartition(".")[2] for name in names} == {
        "query", "key_value", "out", "up", "down",
    }  # fmt: skip


def test_the_memory_of_the_blocks(tmp_path: Path) -> None:
    saved(tmp_path, "qwen2")
    whole = read_language(tmp_path)
    before, counted = _bytes(whole, "layers"), parameter_counts(whole)
    ours, names = adapted(whole, LanguageAdapterConfig("qlora", RANK, ALPHA))
    held = [part.weights for part in ours.modules() if isinstance(part, FourBitLinear)]
    small = sum(ours.get_parameter(name).numel() for name in names)
    scales = sum(weights // 64 + 4 * (1 + -(-weights // (64 * 256))) for weights in held)
    rest = before - 4 * sum(held)  # norms and biases
    assert _bytes(ours, "layers") == sum(held) // 2 + scales + rest + 4 * small
    assert parameter_counts(ours) == (small, counted.total)


def _bytes(module: nn.Module, where: str) -> int:
    held: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return sum(one.nbytes for name, one in held.items() if f".{where}." in name)
