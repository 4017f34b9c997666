"""LoRA: nothing at first, everywhere it is said to be, and a plain model again when merged."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from diptych.adapters.frozen import freeze, parameter_counts
from diptych.adapters.lora import LoraConfig, add_lora, attention_maps, merged
from diptych.core.errors import ConfigError
from diptych.layers.attention import Attention
from diptych.layers.transformer import Transformer
from diptych.layers.vision_transformer import VisionConfig, VisionTransformer

WIDTH, DEPTH, RANK, ALPHA = 12, 2, 3, 6.0
CONFIG = LoraConfig(RANK, ALPHA)


def transformer() -> Transformer:
    torch.manual_seed(0)
    module = Transformer(WIDTH, DEPTH, 3, 24).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def with_lora(module: Transformer, filled: bool = True) -> Transformer:
    changed = freeze(copy.deepcopy(module))
    add_lora(changed, CONFIG)
    if filled:
        for name, parameter in changed.named_parameters():
            if "lora_" in name:
                nn.init.normal_(parameter, std=0.3)
    return changed


def tokens() -> Tensor:
    return torch.randn(4, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


LAST_B = torch.tensor([0, 2, 4, 1])
MASK_B1T = (torch.arange(5) <= LAST_B[:, None])[:, None]


def test_at_first_it_is_the_base() -> None:
    module = transformer()
    changed = with_lora(module, filled=False)
    torch.testing.assert_close(changed(tokens()), module(tokens()), rtol=0, atol=0)
    torch.testing.assert_close(
        changed.pooled(tokens(), LAST_B, MASK_B1T, True), module.pooled(tokens(), LAST_B, MASK_B1T, True),
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip


def test_against_its_equation() -> None:
    module = transformer()
    changed, plain = with_lora(module), copy.deepcopy(module)
    weights = dict(changed.named_parameters())
    for name in attention_maps(plain):
        a, b = weights[f"{name}.lora_A.default.weight"], weights[f"{name}.lora_B.default.weight"]
        plain.get_submodule(name).weight.data += ALPHA / RANK * (b @ a).detach()
    torch.testing.assert_close(changed(tokens()), plain(tokens()), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        changed.pooled(tokens(), LAST_B, MASK_B1T, True), plain.pooled(tokens(), LAST_B, MASK_B1T, True),
        rtol=0, atol=1e-10,
    )  # fmt: skip


def test_a_pooled_last_block_is_changed_in_queries_keys_and_values() -> None:
    changed = with_lora(transformer())
    before = changed.pooled(tokens(), LAST_B, MASK_B1T, True)
    up = changed.get_parameter("blocks.1.attention.qkv.lora_B.default.weight")
    for part in range(3):
        kept = up.detach().clone()
        with torch.no_grad():
            up[part * WIDTH : (part + 1) * WIDTH] += 0.5
        after = changed.pooled(tokens(), LAST_B, MASK_B1T, True)
        assert float((after - before).detach().abs().max()) > 1e-3
        with torch.no_grad():
            up.copy_(kept)


def test_merged_equals_unmerged_and_is_a_plain_module() -> None:
    module = transformer()
    changed = with_lora(module)
    plain = merged(changed)
    assert type(plain) is Transformer
    assert plain.state_dict().keys() == module.state_dict().keys()
    assert all(type(plain.get_submodule(name)) is nn.Linear for name in attention_maps(plain))
    torch.testing.assert_close(plain(tokens()), changed(tokens()), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        plain.pooled(tokens(), LAST_B, MASK_B1T), changed.pooled(tokens(), LAST_B, MASK_B1T), rtol=0, atol=1e-10
    )
    assert "lora_A" in str(list(changed.state_dict())), "merging leaves what it merges as it was"


def test_what_is_trained_is_a_and_b_of_every_attention_map() -> None:
    changed = with_lora(transformer())
    counts = parameter_counts(changed)
    assert counts.trained == DEPTH * RANK * ((WIDTH + 3 * WIDTH) + (WIDTH + WIDTH))
    assert counts.frozen == sum(p.numel() for p in transformer().parameters())
    trained = {name for name, p in changed.named_parameters() if p.requires_grad}
    assert trained == {
        f"blocks.{layer}.attention.{leaf}.lora_{side}.default.weight"
        for layer in range(DEPTH) for leaf in ("qkv", "out") for side in "AB"
    }  # fmt: skip


def test_attention_pooling_has_no_lora() -> None:
    vision = VisionTransformer(VisionConfig(8, 4, 12, 1, 3, 24, "map"))
    assert attention_maps(vision) == ["transformer.blocks.0.attention.qkv", "transformer.blocks.0.attention.out"]


def test_a_wrapped_map_in_a_pooled_block_gives_the_same_numbers() -> None:
    """Calling the whole map and cutting it equals computing the cut alone."""

    class Wrapped(nn.Module):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.linear(x)
            return out

    torch.manual_seed(0)
    attention = Attention(WIDTH, 3).double()
    expected = attention(tokens(), query_BTD=tokens()[:, :2])
    attention.qkv = Wrapped(attention.qkv)  # type: ignore[assignment]
    torch.testing.assert_close(attention(tokens(), query_BTD=tokens()[:, :2]), expected, rtol=0, atol=1e-12)


def test_no_rank_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        LoraConfig(0)
