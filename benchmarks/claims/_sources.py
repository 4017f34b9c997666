"""Scenes of which only some captions are said, or nothing is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.recipes._pairs import PairsRun

R = TypeVar("R", bound=PairsRun)


@dataclass(frozen=True)
class Captions:
    """A source with other captions.

    Attributes:
        whole: the source.
        choose: the captions of a sample; none leaves those that it has.
        said: names the choice.
    """

    whole: Source
    choose: Callable[[Sample], tuple[str, ...]]
    said: str

    @property
    def name(self) -> str:
        return f"{self.whole.name}, {self.said}"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        sample = self.whole[index]
        return replace(sample, texts=self.choose(sample) or sample.texts)

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), self.said):016x}"


@dataclass(frozen=True)
class Blind:
    """A source whose pictures are all one grey: what a model of texts alone would see."""

    whole: Source

    @property
    def name(self) -> str:
        return f"{self.whole.name}, unseen"

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        sample = self.whole[index]
        grey_HWC = np.full((16, 16, 3), 128, np.uint8)
        return replace(sample, visuals=(Image(pixels_HWC=grey_HWC, name=sample.key),), boxes=())

    def keys(self) -> Sequence[str]:
        return self.whole.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'blind'):016x}"


def first_caption(source: Source) -> Captions:
    """The most detailed caption alone, a function of the picture: captions do not vary."""
    return Captions(source, lambda sample: sample.texts[:1], "the first caption")


def true_captions(source: Source, kinds: Sequence[str]) -> Captions:
    """The captions that hard negatives of these kinds are made from, without the negatives."""
    return Captions(source, lambda sample: _true(sample.meta["negatives"], kinds), f"captions of {', '.join(kinds)}")


def _true(negatives: Any, kinds: Sequence[str]) -> tuple[str, ...]:
    return tuple(negatives[kind]["true"] for kind in kinds if kind in negatives)


class OneCaption(PairsRun):
    """A run on pictures with one caption each."""

    def training_data(self) -> Source:
        return first_caption(super().training_data())

    def selection_data(self) -> Source:
        return first_caption(super().selection_data())


def as_run(kind: type[R], run: PairsRun) -> R:
    """The run as one of a class that derives from its own."""
    return kind(**{field.name: getattr(run, field.name) for field in fields(run)})
