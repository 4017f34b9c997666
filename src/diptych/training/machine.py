"""What the machine has of memory and disk, and what this process took of it."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

import torch

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container's limit is written, by version of control groups."""


def peak_memory(device: torch.device) -> int:
    """Most bytes used so far: of the device's memory for CUDA, otherwise of this process, libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB


def memory_of(device: torch.device) -> int:
    """Bytes that there are: of the GPU, or of the machine or the container."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (path.read_text().strip() for path in _LIMITS if path.is_file())
    return min([there, *(int(limit) for limit in limits if limit.isdigit())])


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
