"""A folder that all processes write into, complete or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch.distributed as dist

from diptych.core.storage import atomic_folder, storage_errors
from diptych.distributed.agree import from_main
from diptych.distributed.world import current


@contextmanager
def shared_folder(path: Path) -> Iterator[Path | None]:
    """A temporary folder beside `path` that becomes it when the block ends well on every process.

    Yields:
        the temporary folder, the same on every process (a file system that all of them see); None where `path` is
        there already.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    world = current()
    with storage_errors(path), ExitStack() as stack:
        mine = stack.enter_context(atomic_folder(path)) if world.is_main and not path.exists() else None
        part = from_main(mine)
        yield part
        if part is not None and world.size > 1:
            dist.barrier()  # all have written before the main process gives the folder its name
    if world.size > 1:
        dist.barrier()  # and the name is there before anyone goes on
