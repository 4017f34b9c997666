"""Frozen linear maps held in 4 bits, through bitsandbytes: what QLoRA trains LoRA on.

Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314. Of every 64 weights that follow
one another the largest magnitude is kept, and each of them as the nearest of 16 shares of it, the quantiles of a normal
distribution (NF4). Quantised twice, these magnitudes are held in 8 bits themselves, less their mean, 256 to a float:
4.13 bits a weight in all, 4.5 quantised once.

A map computes in the type of what it is given (bf16 under autocast) with weights that are made again for every pass,
forward and backward, and never kept. What is held are buffers of integers, floats by their bits: no change of type
touches them, optimizers and wrappers pass them by, and they are saved and read as they are.

N outputs, K inputs, H bytes of two weights, S blocks of 64 weights, R blocks of 256 blocks and one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.errors import MissingExtra
from diptych.layers.small_batch_linear import SmallBatchLinear

_BLOCK, _OUTER = 64, 256
_COMPUTED = (torch.float32, torch.bfloat16, torch.float16)


class FourBitLinear(nn.Linear):
    """A linear map, or GPT-2's turned one (Conv1D of `transformers`), that is never trained; its bias stays as it is.

    Raises:
        MissingExtra: bitsandbytes is not installed.
    """

    weight: Tensor
    scales: Tensor
    outer_R: Tensor

    def __init__(self, plain: nn.Module, twice: bool) -> None:
        """
        Args:
            plain: one of `holdable`'s.
            twice: whether the magnitudes of blocks are quantised too.
        """
        bias = plain.bias
        assert isinstance(plain.weight, Tensor) and (bias is None or isinstance(bias, nn.Parameter)), "a linear map"
        weight_NK = plain.weight.detach()
        weight_NK = (weight_NK if isinstance(plain, nn.Linear) else weight_NK.t()).float().contiguous()
        super().__init__(weight_NK.shape[1], weight_NK.shape[0], bias=False, device="meta")
        self.kind, self.twice = type(plain), twice
        self.register_parameter("bias", bias)
        codes_H1, state = _library().functional.quantize_4bit(
            weight_NK, blocksize=_BLOCK, compress_statistics=twice, quant_type="nf4"
        )
        del self.weight
        self.register_buffer("weight", codes_H1)
        self.register_buffer("scales", state.absmax if twice else state.absmax.view(torch.int32))
        outer_R = torch.cat([state.offset[None], state.state2.absmax]) if twice else weight_NK.new_zeros(0)
        self.register_buffer("outer_R", outer_R.view(torch.int32))

    @property
    def weights(self) -> int:
        """How many weights it holds."""
        return self.in_features * self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        device = x.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        kind = kind if kind in _COMPUTED else torch.float32
        bias = None if self.bias is None else self.bias.to(kind)
        with torch.autocast(device, enabled=False):
            out: Tensor = _library().matmul_4bit(x.to(kind), self.weight, quant_state=self._state(), bias=bias)
        return out if torch.is_autocast_enabled(device) else out.to(x.dtype)

    @torch.no_grad()
    def plain(self, change_NK: Tensor | None = None) -> nn.Module:
        """The map of the kind that it was, of the weights that are computed with, in float32.

        Args:
            change_NK: what is added to them.
        """
        weight_NK = _library().functional.dequantize_4bit(self.weight, self._state())
        if change_NK is not None:
            weight_NK = weight_NK + change_NK
        if not issubclass(self.kind, nn.Linear):
            turned = self.kind(self.out_features, self.in_features)
            turned.weight, turned.bias = nn.Parameter(weight_NK.t().contiguous()), self.bias
            return turned
        linear = self.kind(self.in_features, self.out_features, bias=self.bias is not None)
        linear.weight, linear.bias = nn.Parameter(weight_NK), self.bias
        return linear

    def _state(self) -> Any:
        """What the library wants to know beside the codes; it shares the memory of the buffers."""
        kind, shape = _library().functional.QuantState, torch.Size((self.out_features, self.in_features))
        outer_R, device = self.outer_R.view(torch.float32), self.weight.device
        settings = {"shape": shape, "blocksize": _BLOCK, "quant_type": "nf4", "dtype": torch.float32}
        if not self.twice:
            return kind(self.scales.view(torch.float32), **settings)
        inner = kind(outer_R[1:], code=_eight_bits(device), blocksize=_OUTER, dtype=torch.float32)
        return kind(self.scales, **settings, offset=outer_R[0], state2=inner)


def hold_in_four_bits(module: nn.Module, twice: bool) -> list[str]:
    """Replaces the linear maps of a model's blocks, in place; embedding and head stay as they are.

    Returns:
        the names of those that were replaced.

    Raises:
        MissingExtra: bitsandbytes or transformers is not installed.
    """
    names = [name for name, _ in holdable(module)]
    for name in names:
        parent, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(parent), leaf, FourBitLinear(module.get_submodule(name), twice))
    return names


def holdable(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The linear maps in its lists of blocks, but those that `transformers` says must not change their type."""
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, SmallBatchLinear, Conv1D)
    kept: list[str] = getattr(module, "_keep_in_fp32_modules", None) or []
    lists = [name for name, part in module.named_modules() if isinstance(part, nn.ModuleList)]
    return [
        (name, part)
        for name, part in module.named_modules()
        if type(part) in kinds
        and any(name.startswith(f"{some}.") for some in lists)
        and not set(name.split(".")) & set(kept)
    ]


def _library() -> Any:
    try:
        import bitsandbytes
    except ModuleNotFoundError as error:
        raise MissingExtra("bitsandbytes", "qlora", "a language model in 4 bits") from error
    return bitsandbytes


@cache
def _eight_bits(device: torch.device) -> Tensor:
    """The 256 values of the library's 8-bit floats."""
    table: Tensor = _library().functional.create_dynamic_map().to(device)
    return table
