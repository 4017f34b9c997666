"""Scenes of which only some captions are said, or nothing is seen, or some colours are rare."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int, unit_interval
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.derived.subset import Subset
from diptych.data.scenes.source import Scenes
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


def of_colours(source: Source, colours: Collection[str]) -> Subset:
    """The scenes of one object that has one of these colours."""
    wanted = [index for index, colour in enumerate(_colours(source)) if colour in colours]
    return Subset(source, wanted, f"{source.name}, {' or '.join(sorted(colours))}")


def thinned(source: Source, colours: Collection[str], share: float) -> Subset:
    """The scenes of one object, and of those with one of these colours only a share, by a hash of the key."""
    pairs = zip(source.keys(), _colours(source), strict=True)
    kept = [
        index
        for index, (key, colour) in enumerate(pairs)
        if colour not in colours or unit_interval("thinned", key) < share
    ]
    return Subset(source, kept, f"{source.name}, {' and '.join(sorted(colours))} rare")


def _colours(source: Source) -> list[str]:
    """Of the lone object of every scene."""
    assert isinstance(source, Scenes) and source.config.objects == 1
    return [source.scene(index).objects[0].colour for index in range(len(source))]


class OneCaption(PairsRun):
    """A run on pictures with one caption each."""

    def training_data(self) -> Source:
        return first_caption(super().training_data())

    def selection_data(self) -> Source:
        return first_caption(super().selection_data())


def as_run(kind: type[R], run: PairsRun) -> R:
    """The run as one of a class that derives from its own."""
    return kind(**{field.name: getattr(run, field.name) for field in fields(run)})
