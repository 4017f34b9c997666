"""Which patches of a picture are hidden: whole blocks of them, as BEiT hides them.

Bao et al. 2021, "BEiT", arXiv 2106.08254, algorithm 1. A patch between two visible ones can be guessed from its
neighbours; a block has to be understood. The numbers are those of FLAVA (Singh et al. 2021, arXiv 2112.04482) on
14 x 14 patches, 75 hidden in blocks of at least 16, and scale with the grid.

R rows and C columns of patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import ConfigError

_ATTEMPTS = 10
"""How often a block may fall where it does not fit before a picture has to do with the blocks that it has."""


@dataclass(frozen=True)
class BlockMasking:
    """How many patches are hidden, in blocks of which size and shape.

    Attributes:
        ratio: the share of patches that are hidden, at most: blocks overlap and have whole sides, so a few may be left
            over.
        least: the smallest block's share of patches, before what overlaps.
        aspect: the flattest block's height over width; the steepest is one over it.
    """

    ratio: float = 75 / 196
    least: float = 16 / 196
    aspect: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1 or not 0 < self.least <= self.ratio:
            raise ConfigError(
                f"block masking of {self.ratio} of the patches in blocks of {self.least}: give shares above 0, the "
                f"block's no larger than the whole, and the whole below 1"
            )
        if not 0 < self.aspect <= 1:
            raise ConfigError(f"block masking with aspect {self.aspect}: give a height over width in (0, 1]")

    def most(self, patches: int) -> int:
        """How many of so many patches are hidden at most; at least one."""
        return max(round(self.ratio * patches), 1)

    def smallest(self, patches: int) -> int:
        """Patches of the smallest block."""
        return max(round(self.least * patches), 1)


def hidden_blocks(rng: np.random.Generator, rows: int, columns: int, config: BlockMasking) -> NDArray[np.bool_]:
    """A mask [R, C], True where a patch is hidden; at least one is.

    Raises:
        ConfigError: a grid without room for a block beside something visible.
    """
    if min(rows, columns) < 2:
        raise ConfigError(f"{rows} x {columns} patches leave no room for a block: take smaller patches")
    hidden_RC = np.zeros((rows, columns), np.bool_)
    most, count = config.most(rows * columns), 0
    while count < most:
        added = _add_block(hidden_RC, rng, most - count, config)
        if added == 0:
            break
        count += added
    if count == 0:
        hidden_RC[rng.integers(rows), rng.integers(columns)] = True
    return hidden_RC


def _add_block(hidden_RC: NDArray[np.bool_], rng: np.random.Generator, room: int, config: BlockMasking) -> int:
    """Hides one more block of at most `room` patches that were visible; how many it hid, 0 where none would fit."""
    rows, columns = hidden_RC.shape
    smallest, flattest = config.smallest(rows * columns), math.log(config.aspect)
    for _ in range(_ATTEMPTS):
        # The largest block may be below the smallest when little room is left: any area between the two will do.
        area = smallest + (room - smallest) * rng.random()
        aspect = math.exp(flattest * (1 - 2 * rng.random()))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height >= rows or width >= columns:
            continue
        top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
        block_HW = hidden_RC[top : top + height, left : left + width]
        added = block_HW.size - int(block_HW.sum())
        if 0 < added <= room:
            block_HW[:] = True
            return added
    return 0
