"""Where the runs of a study or an ablation are done, as the command line says it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time they are imported where they are used, so that help answers without torch
    from diptych.study.queue import Engine


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """`--processes` and `--ray`."""
    parser.add_argument(
        "--processes", type=int, default=0, help="runs at a time (default: one a core, or a GPU; all of a cluster)"
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", default="", help="on a Ray cluster: auto for this machine's, or HOST:6379"
    )


def engine_of(out: Path, device: str, threads: int, processes: int, ray: str = "") -> Engine:
    """Processes of this machine, or of a Ray cluster's machines.

    Args:
        out: the study's folder.
        threads: torch's, of each run.
        processes: runs at a time; 0 for one a core, or a GPU; of a cluster, for as many as it has room for.
        ray: the cluster's address; "" for this machine.

    Raises:
        ConfigError: fewer processes than none.
        MissingExtra: ray is wanted, and not installed.
    """
    from diptych.core.errors import ConfigError

    if processes < 0:
        raise ConfigError(f"{processes} processes: give 1 or more, or 0 for one a core")
    if ray:
        from diptych.study.cluster import Cluster

        return Cluster(ray, out, print, cores=max(threads, 1), gpu=device == "cuda", most=processes)
    from diptych.study.local import Local

    gpus = _gpus() if device == "cuda" else 0
    return Local(processes or gpus or os.cpu_count() or 1, print, gpus)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
