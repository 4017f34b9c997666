"""Episodes: words are invented for kinds of things, said once or more of pictures of each, and wanted of others.

Fast concept binding of Tsimpoukelli et al. 2021, arXiv 2106.13884 (section 4.3; Open-Ended miniImageNet).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.data.words.chat import IMAGE
from diptych.data.words.pseudowords import Share, draw_pseudowords


@dataclass(frozen=True)
class EpisodeConfig:
    """What an episode is made of.

    Attributes:
        ways: kinds of things, each with a word of its own.
        shots: examples of each kind, in any order.
        queries: pictures that follow, each of one of the kinds.
        by: the fact of a sample that is its kind: a value of its `meta`, or a list of one value.
        said: stands before a word; "" for the word alone.
        pool: of the first so many samples of the source.
        seed: of the draws.
        words: the share that words are drawn from.
    """

    ways: int = 2
    shots: int = 1
    queries: int = 1
    by: str = "class"
    said: str = "this is a"
    pool: int = 2000
    seed: int = 0
    words: Share = "train"

    def __post_init__(self) -> None:
        if min(self.shots, self.queries, self.pool) < 1 or self.ways < 2:
            raise ConfigError(
                f"an episode has 2 or more ways, and 1 or more shots, queries and samples to draw: {self}"
            )


class Episode(NamedTuple):
    """Drawn.

    Attributes:
        kinds, words: of each way.
        shown: the position of each picture in its source, examples first.
        ways: of each picture.
    """

    kinds: tuple[str, ...]
    words: tuple[str, ...]
    shown: tuple[int, ...]
    ways: tuple[int, ...]


def kind_of(sample: Sample, by: str) -> str | None:
    """Its kind; None where it has none, or several."""
    fact = sample.meta.get(by)
    if isinstance(fact, list):
        fact = fact[0] if len(fact) == 1 else None
    return None if fact is None else str(fact)


def kinds_of(source: Source, config: EpisodeConfig) -> dict[str, list[int]]:
    """Kind -> the positions of its samples, of those that can be read and have as many as an episode may need.

    Raises:
        DataError: fewer kinds than ways.
    """
    found: dict[str, list[int]] = {}
    for index in range(min(len(source), config.pool)):
        try:
            kind = kind_of(source[index], config.by)
        except BadSample:
            continue
        if kind is not None:
            found.setdefault(kind, []).append(index)
    enough = {kind: found[kind] for kind in sorted(found) if len(found[kind]) >= config.shots + config.queries}
    if len(enough) < config.ways:
        raise DataError(
            f"{source.name} has {len(enough)} kinds by '{config.by}' with {config.shots + config.queries} pictures or "
            f"more, and an episode of {config.ways} ways needs as many: name another fact of its samples, or fewer ways"
        )
    return enough


def draw_episode(kinds: Mapping[str, Sequence[int]], config: EpisodeConfig, rng: np.random.Generator) -> Episode:
    """Kinds, words, pictures and their order; no picture is shown twice."""
    chosen = [list(kinds)[int(index)] for index in rng.permutation(len(kinds))[: config.ways]]
    words = draw_pseudowords(config.words, config.ways, rng)
    examples = rng.permutation(np.repeat(np.arange(config.ways), config.shots)).tolist()
    ways = [*examples, *rng.integers(config.ways, size=config.queries).tolist()]
    own = [iter(rng.permutation(kinds[kind]).tolist()) for kind in chosen]
    return Episode(tuple(chosen), words, tuple(next(own[way]) for way in ways), tuple(ways))


class Episodes:
    """Episodes as documents that are learned whole: every picture is named behind it.

    What is drawn from is kept in memory once it was read, since each sample is in many episodes.

    Args:
        told: the shortest caption that names the kind stands in the place of each picture: for models of text alone.
    """

    def __init__(self, whole: Source, config: EpisodeConfig, count: int, told: bool = False) -> None:
        if count < 1:
            raise ConfigError(f"count {count}: give 1 or more episodes")
        self.whole, self.config, self.count, self.told = whole, config, count, told
        self._kinds = kinds_of(whole, config)
        self._held: dict[int, Sample] = {}

    @property
    def name(self) -> str:
        return f"episodes of {self.whole.name}{', told' if self.told else ''}"

    def __len__(self) -> int:
        return self.count

    def keys(self) -> Sequence[str]:
        return [self._key(index) for index in range(self.count)]

    def fingerprint(self) -> str:
        return f"{hash_to_int('episodes', self.whole.fingerprint(), repr(self.config), self.count, self.told):016x}"

    def __getitem__(self, index: int) -> Sample:
        key, config = self._key(index), self.config
        rng = np.random.Generator(np.random.PCG64(hash_to_int("episode", config.seed, config.words, index)))
        drawn = draw_episode(self._kinds, config, rng)
        samples = [self._sample(position) for position in drawn.shown]
        stand_ins = [self._stand_in(one, drawn.kinds[way]) for one, way in zip(samples, drawn.ways, strict=True)]
        words = [drawn.words[way] for way in drawn.ways]
        shown = [f"{one}\n{config.said}".rstrip() for one in stand_ins]
        rest = "".join(f" {word} {after}" for word, after in zip(words, shown[1:], strict=False))
        turns = (Turn("user", shown[0]), Turn("assistant", f"{rest} {words[-1]}".strip()))
        visuals = () if self.told else tuple(one.image for one in samples)
        facts = {"words": list(drawn.words), "kinds": list(drawn.kinds), "ways": list(drawn.ways)}
        return Sample(key, visuals, turns=turns, meta=facts)

    def _sample(self, position: int) -> Sample:
        if position not in self._held:
            self._held[position] = self.whole[position]
        return self._held[position]

    def _stand_in(self, sample: Sample, kind: str) -> str:
        if not self.told:
            return IMAGE
        return min((text for text in sample.texts if kind in text), key=len, default=kind)

    def _key(self, index: int) -> str:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return f"episode-{self.config.words}-{self.config.seed}-{index:08d}"
