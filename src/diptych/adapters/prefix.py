"""Prefix tuning through peft: keys and values that are learned, before those of all that is read, in every layer.

Li and Liang 2021, "Prefix-Tuning", arXiv 2101.00190, without the network that they train through: the keys and values
themselves are the parameters, as in P-tuning v2 (Liu et al. 2022, arXiv 2110.07602).

G key heads, P learned places, K width of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.adapters.lora import peft_for


class KeySizes(NamedTuple):
    """Of a causal model's keys: layers, heads, and the width of a head."""

    depth: int
    heads: int
    width: int


class LearnedKeys(nn.Module):
    """Keys and values of `tokens` places in every layer.

    Raises:
        MissingExtra: peft is not installed.
    """

    places_P: Tensor

    def __init__(self, sizes: KeySizes, tokens: int) -> None:
        super().__init__()
        peft = peft_for("prefix tuning")
        self.sizes, self.tokens = sizes, tokens
        settings = peft.PrefixTuningConfig(
            "CAUSAL_LM", num_virtual_tokens=tokens, token_dim=sizes.heads * sizes.width, num_layers=sizes.depth,
            num_attention_heads=sizes.heads, num_transformer_submodules=1,
        )  # fmt: skip
        self.encoder: nn.Module = peft.PrefixEncoder(settings)
        self.register_buffer("places_P", torch.arange(tokens), persistent=False)

    def forward(self) -> list[tuple[Tensor, Tensor]]:
        """Of every layer, keys and values [G, P, K]."""
        depth, heads, width = self.sizes
        table_P = self.encoder(self.places_P)
        pairs = table_P.view(self.tokens, 2 * depth, heads, width).permute(1, 2, 0, 3).unbind()
        return list(zip(pairs[::2], pairs[1::2], strict=True))
