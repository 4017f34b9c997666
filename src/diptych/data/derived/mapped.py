"""A source made of another by changing its samples one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source


@dataclass(frozen=True)
class Mapped(ABC):
    """The samples of a source, each changed by `change`; positions and keys stay.

    Attributes:
        whole: the source.
        CHANGE: what is done to the samples, for the name and the fingerprint.
    """

    CHANGE: ClassVar[str]
    whole: Source

    @abstractmethod
    def change(self, sample: Sample) -> Sample:
        """The changed sample, a function of the sample alone.

        Raises:
            BadSample: it has nothing that this can be made of.
        """

    def settings(self) -> Sequence[str]:
        """What the change depends on besides the sample."""
        return ()

    @property
    def name(self) -> str:
        return f"{self.whole.name}, {self.CHANGE}"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        """The changed sample at a position; raises BadSample as `change` does."""
        return self.change(self.whole[index])

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), self.CHANGE, *self.settings()):016x}"
