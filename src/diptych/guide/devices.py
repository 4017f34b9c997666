"""Devices to train on: what their makers say they compute and hold, and which share of it training gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from diptych.core.errors import ConfigError

GB, TERA = 10**9, 1e12
HOST = "cpu"
"""The machine that plans: its rates are measured."""


class Use(NamedTuple):
    """The share of the peak rate that the model's own operations get in training, from low to high."""

    low: float
    typical: float
    high: float


@dataclass(frozen=True)
class Device:
    """One kind.

    Attributes:
        memory: bytes.
        rates: precision -> floating point operations a second of dense products (no sparsity), at most.
        use: precision -> the share of that.
    """

    name: str
    memory: int
    rates: Mapping[str, float]
    use: Mapping[str, Use]

    def rate(self, precision: str) -> float:
        """The peak in this precision.

        Raises:
            ConfigError: the device does not compute in it.
        """
        if precision not in self.rates:
            raise ConfigError(f"{self.name} does not compute in {precision}: plan with --precision fp32")
        return self.rates[precision]


# The low end in bf16 is what open_clip's runs on LAION-400M got of A100s by our count of their operations (10 to 14 %,
# docs/plan.md); the high end is what large transformers get (46 % in PaLM, arXiv 2204.02311, table 3). Devices that
# have fewer bytes a second of memory for an operation get less of their peak: most of a step that is no product of
# matrices waits for memory. In fp32 products take longer and hide more of the rest; these shares are our assumption.
_WIDE = {"bf16": Use(0.10, 0.25, 0.45), "fp32": Use(0.30, 0.55, 0.80)}
_NARROW = {"bf16": Use(0.06, 0.20, 0.40), "fp32": Use(0.25, 0.50, 0.75)}
CPU_USE = {"bf16": Use(0.15, 0.35, 0.70), "fp32": Use(0.20, 0.45, 0.85)}
"""Of the rate of a product of matrices measured on the machine."""

# Dense rates with fp32 accumulation, without sparsity, and fp32 without tensor cores (PyTorch's default).
_DEVICES = (
    # NVIDIA A100 datasheet (2021): bf16 312, fp32 19.5 TFLOP/s, HBM2e 2,039 GB/s (80 GB, SXM).
    Device("A100", 80 * GB, {"bf16": 312 * TERA, "fp32": 19.5 * TERA}, _WIDE),
    Device("A100-40GB", 40 * GB, {"bf16": 312 * TERA, "fp32": 19.5 * TERA}, _WIDE),
    # NVIDIA H100 datasheet (2023), SXM: bf16 1,979 with sparsity, so half; fp32 67 TFLOP/s, 3,350 GB/s.
    Device("H100", 80 * GB, {"bf16": 989.5 * TERA, "fp32": 67 * TERA}, _NARROW),
    # NVIDIA H200 datasheet (2024), SXM: rates of the H100, 141 GB, 4,800 GB/s.
    Device("H200", 141 * GB, {"bf16": 989.5 * TERA, "fp32": 67 * TERA}, _NARROW),
    # NVIDIA L40S datasheet (2023): bf16 362.05 dense, fp32 91.6 TFLOP/s, 864 GB/s.
    Device("L40S", 48 * GB, {"bf16": 362 * TERA, "fp32": 91.6 * TERA}, _NARROW),
    # NVIDIA L4 datasheet (2023): bf16 242 with sparsity, fp32 30.3 TFLOP/s, 300 GB/s.
    Device("L4", 24 * GB, {"bf16": 121 * TERA, "fp32": 30.3 * TERA}, _NARROW),
    # NVIDIA Ada architecture whitepaper (2022), appendix A: bf16 with fp32 accumulation 165.2, fp32 82.6, 1,008 GB/s.
    Device("RTX4090", 24 * GB, {"bf16": 165.2 * TERA, "fp32": 82.6 * TERA}, _NARROW),
    # NVIDIA T4 datasheet (2019): fp32 8.1 TFLOP/s; its tensor cores know fp16, not bf16.
    Device("T4", 16 * GB, {"fp32": 8.1 * TERA}, _WIDE),
)
DEVICES = {device.name: device for device in _DEVICES}


class Fleet(NamedTuple):
    """How many of a device: its name in the table, or HOST."""

    devices: int
    device: str


def fleet(text: str) -> Fleet:
    """ "8xA100", "A100", "8 x rtx 4090", "1xcpu".

    Raises:
        ConfigError: an unknown device (the known ones are listed), or no number.
    """
    found = re.fullmatch(r"\s*(?:(\d+)\s*[x*]\s*)?(\S.*?)\s*", text)
    if found is None or (devices := int(found[1] or 1)) < 1:
        raise ConfigError(f"--gpus '{text}': write how many and which, such as 8xA100")
    wanted = _plain(found[2])
    names = {_plain(name): name for name in (*DEVICES, HOST)}
    if wanted not in names:
        raise ConfigError(f"unknown device '{found[2]}': known are {', '.join((*DEVICES, HOST))}")
    return Fleet(devices, names[wanted])


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower().removeprefix("nvidia")
