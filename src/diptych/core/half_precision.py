"""Whether a device computes in bf16 at a profit: a processor without the instructions for it emulates them."""

from __future__ import annotations

from functools import cache
from time import perf_counter

import torch

_SIDE, _TRIES = 192, 8


@cache
def bf16_pays(device_type: str) -> bool:
    """Whether a product of matrices takes less time in bf16 than in fp32, by trying both for a few milliseconds.

    On a processor with AVX2 alone bf16 is tens of times slower; with AVX-512 BF16 or AMX, on Arm's BF16 and on GPUs of
    the last years it is about twice as fast or more: nothing is near the line.

    Args:
        device_type: "cpu", "cuda" ...
    """
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine several may wait for one another much longer than they compute
    try:
        return _fastest(torch.bfloat16, device_type) < _fastest(torch.float32, device_type)
    finally:
        torch.set_num_threads(threads)


def _fastest(kind: torch.dtype, device_type: str) -> float:
    """Seconds of the fastest of a few products; the first one may prepare something."""
    matrix = torch.ones(_SIDE, _SIDE, dtype=kind, device=device_type)
    float((matrix @ matrix)[0, 0])
    seconds = []
    for _ in range(_TRIES):
        started = perf_counter()
        float((matrix @ matrix)[0, 0])
        seconds.append(perf_counter() - started)
    return min(seconds)
