"""Small trained parts of a frozen language model: LoRA, DoRA and VeRA inside it, through peft; vectors before it.

LoRA   W = W_0 + (alpha / r) B A                                             (Hu et al. 2021, arXiv 2106.09685)
DoRA   W = m (W_0 + (alpha / r) B A) / |W_0 + (alpha / r) B A|, by output    (Liu et al. 2024, arXiv 2402.09353)
VeRA   W = W_0 + diag(b) B diag(d) A, with A and B random, frozen and shared (Kopiczko et al. 2024, arXiv 2310.11454)
QLoRA  LoRA, with W_0 held in 4 bits (four_bit.py)                            (Dettmers et al. 2023, arXiv 2305.14314)

These are at first the frozen map itself, and can be added into it in the end (`lora.merged`). They have no dropout:
what is drawn here is a function of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from diptych.adapters.four_bit import hold_in_four_bits
from diptych.adapters.lora import peft_for
from diptych.core.errors import ConfigError
from diptych.layers.causal_block import CausalAttention

Method = Literal["none", "lora", "qlora", "dora", "vera", "prompt", "prefix"]
_D_INITIAL = 0.1
"""Of VeRA's d, as published."""


@dataclass(frozen=True)
class LanguageAdapterConfig:
    """What is trained of a language model instead of all of it; the defaults are MiniGPT-v2's LoRA, switched off.

    Attributes:
        method: "none" for nothing; "lora", "qlora", "dora" and "vera" change linear maps; "prompt" is learned vectors
            before all that is read, "prefix" learned keys and values before it in every layer.
        rank: r.
        alpha: of LoRA, QLoRA and DoRA, whose change is multiplied by alpha / rank.
        targets: last parts of the names of the maps that are changed; none for those of queries, keys and values in our
            own trunk, where keys and values are one matrix (so A is shared by the two), and for peft's choice in a
            model of `transformers` (of most: queries and values); of "qlora" none are all that are held in 4 bits.
        tokens: of "prompt" and "prefix": how many places.
        quantised_twice: of "qlora": whether the scales of the 4-bit weights are held in 8 bits.
    """

    method: Method = "none"
    rank: int = 64
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    tokens: int = 16
    quantised_twice: bool = True

    def __post_init__(self) -> None:
        if min(self.rank, self.tokens) < 1 or self.alpha <= 0:
            raise ConfigError(
                f"adapter.rank {self.rank}, adapter.alpha {self.alpha} and adapter.tokens {self.tokens} must be above 0"
            )


def add_adapter(module: nn.Module, config: LanguageAdapterConfig) -> frozenset[str]:
    """Puts LoRA, QLoRA, DoRA or VeRA into a module's linear maps, in place.

    Args:
        module: on our own trunk, or a `transformers` model.

    Returns:
        the names of the parameters that were added: what is to be trained.

    Raises:
        ConfigError: no such maps, or peft does not know which to take of this model.
        MissingExtra: peft is not installed, or for QLoRA bitsandbytes.
    """
    assert config.method in ("lora", "qlora", "dora", "vera"), "a method that changes linear maps"
    peft = peft_for(config.method)
    before = {name for name, _ in module.named_parameters()}
    held = hold_in_four_bits(module, config.quantised_twice) if config.method == "qlora" else []
    maps = _maps(module, config) if config.targets or not held else held
    try:
        if config.method == "vera":
            settings = peft.VeraConfig(r=config.rank, d_initial=_D_INITIAL, target_modules=maps)
            peft.VeraModel(module, settings, "default")
        else:
            settings = peft.LoraConfig(
                r=config.rank, lora_alpha=config.alpha, target_modules=maps, use_dora=config.method == "dora"
            )
            peft.LoraModel(module, settings, "default")
    except ValueError as error:  # what peft raises where it finds or knows no map
        raise ConfigError(
            f"{config.method} finds nothing to change in {type(module).__name__}: name linear maps with "
            f"adapter.targets ({f'{error}'.partition(chr(10))[0]})"
        ) from error
    names = {name.replace(".base_layer.", ".") for name, _ in module.named_parameters()}
    return frozenset(names - before)


def _maps(module: nn.Module, config: LanguageAdapterConfig) -> list[str] | None:
    """The names of the maps to change; None for peft's choice."""
    if config.targets:
        return list(config.targets)
    own = [name for name, part in module.named_modules() if isinstance(part, CausalAttention)]
    return [f"{name}.{leaf}" for name in own for leaf in ("query", "key_value")] or None
