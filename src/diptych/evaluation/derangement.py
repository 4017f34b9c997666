"""For every sample another one: the control that shows what the right picture, or the right text, is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from diptych.core.seeding import hash_to_int


class Derangement:
    """The samples in a circle of seeded order: each one's other is the next that is allowed.

    Where all are allowed every sample is the other of exactly one: a derangement.

    Args:
        keys: of the samples.
        seed: another seed is another circle; the order of the samples does not matter.
    """

    def __init__(self, keys: Sequence[str], seed: int) -> None:
        self._circle = sorted(range(len(keys)), key=lambda index: hash_to_int("others", seed, keys[index]))
        self._place = {index: place for place, index in enumerate(self._circle)}

    def of(self, index: int, allowed: Callable[[int], bool]) -> int | None:
        """The position of another sample than `index`; None where none is allowed."""
        around = len(self._circle)
        for step in range(1, around):
            other = self._circle[(self._place[index] + step) % around]
            if allowed(other):
                return other
        return None
