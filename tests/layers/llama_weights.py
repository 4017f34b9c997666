"""A random Llama of transformers, and our trunk with its weights."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor

from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer

START, END, PAD = 0, 1, 2


def llama(key_heads: int = 4) -> tuple[transformers.LlamaForCausalLM, CausalTransformer]:
    """Both, of 50 tokens and two layers."""
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=key_heads, max_position_embeddings=64, rope_theta=500.0, rms_norm_eps=1e-4,
        bos_token_id=START, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    ours = CausalTransformer(CausalConfig(32, 2, 4, 48, key_heads=key_heads, eps=1e-4, rotary=500.0))
    ours.load_state_dict(as_ours(theirs.state_dict(), 2))
    return theirs, ours


def as_ours(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Our names of Llama's weights, or of gradients."""
    found = {"norm.weight": state["model.norm.weight"]}
    for layer in range(depth):
        at, to = f"model.layers.{layer}.", f"blocks.{layer}."
        attention, mlp = f"{at}self_attn.", f"{at}mlp."
        found[f"{to}attention.query.weight"] = state[f"{attention}q_proj.weight"]
        found[f"{to}attention.key_value.weight"] = torch.cat(
            [state[f"{attention}k_proj.weight"], state[f"{attention}v_proj.weight"]]
        )
        found[f"{to}attention.out.weight"] = state[f"{attention}o_proj.weight"]
        found[f"{to}attention_norm.weight"] = state[f"{at}input_layernorm.weight"]
        found[f"{to}mlp_norm.weight"] = state[f"{at}post_attention_layernorm.weight"]
        found[f"{to}mlp.up.weight"] = torch.cat([state[f"{mlp}gate_proj.weight"], state[f"{mlp}up_proj.weight"]])
        found[f"{to}mlp.down.weight"] = state[f"{mlp}down_proj.weight"]
    return found
