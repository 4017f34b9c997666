"""Keeping large blocks of memory between uses instead of giving them back to the operating system.

By default glibc maps every large block anew and unmaps it when it is freed, so each activation of a convolution costs
a page fault every 4 KiB: on a CPU that can be most of the time of a forward pass.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST = 1 << 30
"""Bytes: blocks below this are kept; it also bounds how much free memory is held back at the heap's top."""


def keep_large_blocks() -> bool:
    """Tells glibc's malloc to reuse large blocks, for the whole process and for good; costs idle memory.

    Returns:
        Whether it took effect: False on another C library (musl, macOS, Windows), where nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST))
