"""A random Llama of transformers, and our trunk with its weights, as writers of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.sampling import TextSampling
from diptych.decoding.trunk_decoder import TrunkDecoder
from diptych.decoding.write import write
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.small_batch_linear import SmallBatchLinear

VOCABULARY = 4096
ROTARY = 10_000.0


@dataclass(frozen=True)
class Size:
    """Of a Llama."""

    width: int
    depth: int
    heads: int
    hidden: int


class Both:
    """The same weights on both sides.

    Attributes:
        millions: of parameters.
    """

    def __init__(self, transformers: ModuleType, size: Size) -> None:
        config = transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=size.width, intermediate_size=size.hidden,
            num_hidden_layers=size.depth, num_attention_heads=size.heads, max_position_embeddings=1024,
            rope_theta=ROTARY, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
            pad_token_id=None,
        )  # fmt: skip
        torch.manual_seed(0)
        self.theirs = transformers.LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in self.theirs.parameters():
                if parameter.ndim == 2:  # wide enough that no two logits are nearly equal
                    parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
        self.millions = sum(parameter.numel() for parameter in self.theirs.parameters()) / 1e6
        self.trunk = CausalTransformer(CausalConfig(size.width, size.depth, size.heads, size.hidden, rotary=ROTARY))
        self.trunk.load_state_dict(_as_ours(self.theirs.state_dict(), size.depth))
        self.trunk.eval().requires_grad_(requires_grad=False)
        self.words = nn.Embedding.from_pretrained(self.theirs.get_input_embeddings().weight.detach())
        self.head = SmallBatchLinear(size.width, VOCABULARY, bias=False).requires_grad_(requires_grad=False)
        self.head.weight = self.words.weight

    def their_tokens(self, prompts_NT: Tensor, count: int) -> list[list[int]]:
        """What transformers writes."""
        seen_NT = torch.ones_like(prompts_NT)
        with torch.inference_mode():
            all_NT = self.theirs.generate(prompts_NT, attention_mask=seen_NT, max_new_tokens=count, do_sample=False)
        found: list[list[int]] = all_NT[:, prompts_NT.shape[1] :].tolist()
        return found

    def our_tokens(self, prompts_NT: Tensor, count: int) -> list[list[int]]:
        """What we write."""
        with torch.inference_mode():
            decoder = TrunkDecoder(
                self.trunk,
                self._embed,
                self._logits,
                prompts_NT.tolist(),
                prompts_NT.shape[1] + count,
                torch.device("cpu"),
            )
            return write(decoder, [count] * len(prompts_NT), TextSampling(count), ends=())

    def _embed(self, tokens_NT: Tensor, _: Tensor) -> Tensor:
        out: Tensor = self.words(tokens_NT)
        return out

    def _logits(self, states_ND: Tensor) -> Tensor:
        out: Tensor = self.head(states_ND)
        return out


def _as_ours(state: dict[str, Any], depth: int) -> dict[str, Tensor]:
    """Our names of Llama's weights."""
    found = {"norm.weight": state["model.norm.weight"]}
    for layer in range(depth):
        at, to = f"model.layers.{layer}.", f"blocks.{layer}."
        attention, mlp = f"{at}self_attn.", f"{at}mlp."
        keys_values = [state[f"{attention}k_proj.weight"], state[f"{attention}v_proj.weight"]]
        found |= {
            f"{to}attention.query.weight": state[f"{attention}q_proj.weight"],
            f"{to}attention.key_value.weight": torch.cat(keys_values),
            f"{to}attention.out.weight": state[f"{attention}o_proj.weight"],
            f"{to}attention_norm.weight": state[f"{at}input_layernorm.weight"],
            f"{to}mlp_norm.weight": state[f"{at}post_attention_layernorm.weight"],
            f"{to}mlp.up.weight": torch.cat([state[f"{mlp}gate_proj.weight"], state[f"{mlp}up_proj.weight"]]),
            f"{to}mlp.down.weight": state[f"{mlp}down_proj.weight"],
        }
    return found
