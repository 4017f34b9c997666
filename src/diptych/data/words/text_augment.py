"""Strong views of a caption: a pure function of (caption, random generator).

CLIP-rocket (Fini et al. 2023, arXiv 2305.08675) drops stop words from a caption and then makes one change of Wei and
Zou's "easy data augmentation" (arXiv 1901.11196): a synonym, two words swapped, or words deleted. Its code takes both
lists from NLTK and WordNet, which have to be downloaded; here a small table of the words that captions are made of is
part of the package (words.json), and a file of one's own adds to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from diptych.core.errors import ConfigError, DataError

_PUNCTUATION = ".,;:!?\"'()[]"


@dataclass(frozen=True)
class TextAugmentation:
    """How strongly captions vary; the defaults are those of CLIP-rocket's code.

    Attributes:
        stop_words: probability that stop words are dropped, before anything else.
        synonym, swap, delete: probability of each change; at most one of them is made, so they add up to 1 at most.
        deleted: the share of words that a deletion removes.
        words: a JSON file that adds to the table: {"synonyms": [["sofa", "couch"], ...], "stop_words": [...]}.
    """

    stop_words: float = 0.8
    synonym: float = 0.4
    swap: float = 0.4
    delete: float = 0.2
    deleted: float = 0.1
    words: str = ""

    def __post_init__(self) -> None:
        for name in ("stop_words", "synonym", "swap", "delete", "deleted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"text augmentation: {name} {getattr(self, name)} must be in [0, 1]")
        if (total := self.synonym + self.swap + self.delete) > 1 + 1e-9:
            raise ConfigError(
                f"text augmentation: synonym, swap and delete add up to {total:g}: one of them is made, so at most 1"
            )


@dataclass(frozen=True)
class Words:
    """The table.

    Attributes:
        stop: words that carry little of what a picture shows.
        synonyms: word -> what may stand in its place.
    """

    stop: frozenset[str]
    synonyms: Mapping[str, tuple[str, ...]]


def augmented(caption: str, rng: np.random.Generator, settings: TextAugmentation) -> str:
    """A strong view of a caption; words keep their punctuation. Never empty, unless the caption is.

    Raises:
        DataError: `settings.words` is not there or not such a table.
    """
    table = words_of(settings.words)
    words = caption.split()
    if not words:
        return caption
    if rng.random() < settings.stop_words:
        words = [word for word in words if _bare(word) not in table.stop] or words
    return " ".join(_changed(words, rng, settings, table))


def _changed(words: list[str], rng: np.random.Generator, settings: TextAugmentation, table: Words) -> list[str]:
    """At most one of the three changes."""
    changes: tuple[tuple[float, Callable[[], list[str]]], ...] = (
        (settings.synonym, lambda: _with_a_synonym(words, rng, table)),
        (settings.swap, lambda: _swapped(words, rng)),
        (settings.delete, lambda: _thinned(words, rng, settings.deleted)),
    )
    drawn = rng.random()
    for probability, change in changes:
        if drawn < probability:
            return change()
        drawn -= probability
    return words


def _with_a_synonym(words: list[str], rng: np.random.Generator, table: Words) -> list[str]:
    """One word that has synonyms, wherever it stands, as one of them."""
    known = sorted({_bare(word) for word in words} & table.synonyms.keys())
    if not known:
        return words
    old = known[int(rng.integers(len(known)))]
    choices = table.synonyms[old]
    new = choices[int(rng.integers(len(choices)))]
    return [_in_place_of(word, new) if _bare(word) == old else word for word in words]


def _swapped(words: list[str], rng: np.random.Generator) -> list[str]:
    """Two words in each other's place."""
    if len(words) < 2:
        return words
    first, second = rng.choice(len(words), size=2, replace=False).tolist()
    swapped = list(words)
    swapped[first], swapped[second] = words[second], words[first]
    return swapped


def _thinned(words: list[str], rng: np.random.Generator, share: float) -> list[str]:
    """Each word is dropped with a probability; one of them stays."""
    kept = [word for word, drawn in zip(words, rng.random(len(words)).tolist(), strict=True) if drawn >= share]
    return kept or [words[int(rng.integers(len(words)))]]


def _bare(word: str) -> str:
    """The word as the table has it."""
    return word.strip(_PUNCTUATION).lower()


def _in_place_of(word: str, new: str) -> str:
    """With the punctuation and the capital of what it replaces."""
    core = word.strip(_PUNCTUATION)
    return word.replace(core, new.capitalize() if core[0].isupper() else new, 1)


@cache
def words_of(path: str = "") -> Words:
    """The package's table, with what a file adds.

    Raises:
        DataError: the file is not there or not such a table.
    """
    tables = [_read(Path(__file__).with_name("words.json"))]
    if path:
        tables.append(_read(Path(path)))
    synonyms: dict[str, list[str]] = {}
    for group in (group for table in tables for group in table.get("synonyms", [])):
        for word in group:
            others = [other.lower() for other in group if other.lower() != word.lower()]
            synonyms.setdefault(word.lower(), []).extend(others)
    stop = frozenset(word.lower() for table in tables for word in table.get("stop_words", []))
    return Words(stop, {word: tuple(dict.fromkeys(others)) for word, others in synonyms.items() if others})


def _read(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no table of words at {path}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not (isinstance(table, dict) and table.keys() <= {"synonyms", "stop_words"} and _is_table(table)):
        raise DataError(f'{path} is no table of words: expected {{"synonyms": [["sofa", "couch"]], "stop_words": []}}')
    return table


def _is_table(table: dict[str, object]) -> bool:
    groups, stop = table.get("synonyms", []), table.get("stop_words", [])
    if not isinstance(groups, list) or not isinstance(stop, list):
        return False
    return all(isinstance(group, list) for group in groups) and all(
        isinstance(word, str) for group in [*groups, stop] for word in group
    )
