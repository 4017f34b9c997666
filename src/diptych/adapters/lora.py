"""LoRA through peft: a low-rank change of frozen linear maps, which can be added into them in the end.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685:

    W = W_0 + (alpha / r) B A,    A [r, in] as Kaiming says, B [out, r] zero at first

so that the adapted model is at first the base. Here it changes the attention's maps in the blocks of both towers: that
of queries, keys and values, which is one matrix (so A is shared by the three), and that of the output.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from diptych.adapters.four_bit import FourBitLinear
from diptych.core.errors import ConfigError, MissingExtra
from diptych.layers.attention import Attention

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class LoraConfig:
    """The low-rank change.

    Attributes:
        rank: r.
        alpha: the change is multiplied by alpha / rank.
    """

    rank: int = 4
    alpha: float = 8.0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(f"lora.rank {self.rank} and lora.alpha {self.alpha} must be above 0")


def attention_maps(module: nn.Module) -> list[str]:
    """The full names of the linear maps that LoRA changes."""
    found = [name for name, part in module.named_modules() if isinstance(part, Attention)]
    return [f"{name}.{leaf}" for name in found for leaf in ("qkv", "out")]


def add_lora(module: nn.Module, config: LoraConfig) -> None:
    """Puts LoRA into the module's attention, in place; afterwards its A and B alone require gradients.

    Raises:
        MissingExtra: peft is not installed.
    """
    peft = peft_for("LoRA")
    names = attention_maps(module)
    assert names, "no attention to put LoRA into"
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names, lora_dropout=0.0)
    peft.inject_adapter_in_model(settings, module)


def merged(module: M) -> M:
    """A copy in which every change is added into the weights it changes: a plain module again.

    Of LoRA, and of QLoRA, DoRA and VeRA too (language.py). What was held in 4 bits becomes float32: the numbers that
    the 4 bits stand for, since with a change they would fit no 4 bits.
    """
    peft_for("LoRA")
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = copy.deepcopy(module)
    layers: list[tuple[str, Any]] = [
        (name, part) for name, part in plain.named_modules() if isinstance(part, BaseTunerLayer)
    ]
    for name, layer in layers:
        base = layer.get_base_layer()
        if isinstance(base, FourBitLinear):
            base = base.plain(layer.get_delta_weight("default"))
        else:
            layer.merge(safe_merge=True)
        _put(plain, name, base)
    for name, held in [(name, part) for name, part in plain.named_modules() if isinstance(part, FourBitLinear)]:
        _put(plain, name, held.plain())
    return plain


def _put(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, part)


def peft_for(purpose: str) -> Any:
    """The library.

    Raises:
        MissingExtra: it is not installed.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft loads it, and it asks for kernels of a hub
    try:
        import peft
    except ModuleNotFoundError as error:
        raise MissingExtra("peft", "adapters", purpose) from error
    return peft
