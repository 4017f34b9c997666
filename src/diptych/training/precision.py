"""Which precision a run computes in on the machine that it found."""

from __future__ import annotations

import logging
from typing import Literal

from diptych.core.half_precision import bf16_pays
from diptych.distributed.agree import from_main
from diptych.distributed.world import World

Precision = Literal["fp32", "bf16", "auto"]

_log = logging.getLogger(__name__)


def computes_in_bf16(precision: Precision, device_type: str, world: World) -> bool:
    """Whether passes run under bf16 autocast: the same answer on every process, that of the main one.

    Where bf16 is asked for by name and slower than fp32, the main process says so.
    """
    pays = bool(from_main({"pays": float(bf16_pays(device_type))})["pays"])
    if precision == "bf16" and not pays and world.is_main:
        _log.warning("this %s has no fast bf16: precision fp32, or auto, would train faster", device_type)
    return precision == "bf16" or (precision == "auto" and pays)
