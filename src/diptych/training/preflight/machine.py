"""What the machine has of memory and disk, and what this process took of it."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path
from time import perf_counter

import torch

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container's limit is written, by version of control groups."""


def peak_memory(device: torch.device) -> int:
    """Most bytes used so far: of the device's memory for CUDA, otherwise of this process, libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _most_resident()


def held_memory(device: torch.device) -> int:
    """Bytes used now, of what `peak_memory` counts; on systems that do not say, the most so far."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS") or _most_resident()


def _status(name: str) -> int:
    """A line of what Linux says about this process, in bytes; 0 elsewhere."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return 0
    return int(path.read_text(encoding="ascii").partition(f"{name}:")[2].split()[0]) * 1024


def _most_resident() -> int:
    """Of this process; where it was started by a larger one, Linux's getrusage begins with that one's."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status("VmHWM") or (peak if sys.platform == "darwin" else peak * 1024)  # macOS counts bytes, others KiB


def memory_of(device: torch.device) -> int:
    """Bytes that there are: of the GPU, or of the machine or the container."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (path.read_text().strip() for path in _LIMITS if path.is_file())
    return min([there, *(int(limit) for limit in limits if limit.isdigit())])


def matrix_rate(precision: str, side: int = 1024, tries: int = 5) -> float:
    """Floating point operations a second of a product of matrices on this processor: the best of a few."""
    matrix = torch.ones(side, side, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    seconds = []
    for _ in range(tries):
        began = perf_counter()
        matrix @ matrix
        seconds.append(perf_counter() - began)
    return 2.0 * side**3 / min(seconds)


def free_disk(path: Path) -> int:
    """Bytes free where `path` lies or would lie."""
    return shutil.disk_usage(nearest_folder(path)).free


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def finished(device: torch.device) -> None:
    """Waits until the device has done what it was given, so that a clock says when that was."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
