"""Captions with one word hidden, and pictures of which that word is not true.

On scenes a colour and a shape are hidden, out of all colours and all shapes; elsewhere a word with content, out of the
most frequent ones of the data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from diptych.core.records.results import SampleRecord
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.data.scenes.world import COLOURS, SHAPES
from diptych.data.words.cloze import MASK
from diptych.evaluation.derangement import Derangement

SCENE_WORDS = {"colour": tuple(COLOURS), "shape": SHAPES}
CONTENT = "content"

_WORD = re.compile(r"(?<!\S)[^\W\d_]{2,}(?!\S)")
"""A word between blanks: what stands beside a comma would leave that behind, in another place than models know it."""
_ARTICLES = ("a", "an")
_SHORT_WORDS = """
    a about above across after against all along also am among an and another any are around as at away back be
    because been before behind being below beneath beside besides between both but by can close could did do does doing
    down during each either else every few for from front further had has have having he her here hers herself him
    himself his how if in inside into is it its itself just like many may me more most much my near next no nor not of
    off on once one only onto or other others our out outside over own past per same she should since so some such than
    that the their them themselves then there these they this those through till to together too toward towards under
    until up upon us very was we were what when where whether which while who whom whose why will with within without
    would you your
"""
_FUNCTION_WORDS = frozenset(_SHORT_WORDS.split())


@dataclass(frozen=True)
class Question:
    """A caption with a hidden word, for two pictures.

    Attributes:
        key: of its record: the sample's key, "#" and the group, and "#" and a number from its second one on.
        picture: the sample's key.
        sample, other: positions of the sample whose caption it is, and of one that the word is not true of.
        choices: the words to choose from, the truth among them; () for any word.
    """

    key: str
    picture: str
    sample: int
    other: int
    group: str
    text: str
    truth: str
    choices: tuple[str, ...]


def questions(
    samples: Sequence[Sample], vocabulary: int, seed: int, each: int = 1
) -> tuple[list[Question], list[SampleRecord]]:
    """Every question about the samples, and records that say why there is none about the others.

    Args:
        vocabulary: how many words with content there are to choose from where the data are no scenes; 0 for any word.
        each: the most questions about a sample in each group.
    """
    others = Derangement([sample.key for sample in samples], seed)
    truths = [words_of(sample) for sample in samples]
    frequent = frequent_words(samples, vocabulary)
    found: list[Question] = []
    skipped: list[SampleRecord] = []
    for index, sample in enumerate(samples):
        reason, asked = "no word to hide", False
        for group, choices in _groups(sample, frequent).items():
            for number, (text, word) in enumerate(hide_some(sample, group, choices, seed, each)):
                other = others.of(index, partial(_untrue, truths, word))
                if other is None:
                    reason = "the word is true of every picture"
                    continue
                key = f"{sample.key}#{group}" + (f"#{number + 1}" if number else "")
                found.append(Question(key, sample.key, index, other, group, text, word, choices))
                asked = True
        if not asked:
            skipped.append(SampleRecord(sample.key, status=f"skipped: {reason}"))
    return found, skipped


def hide_some(sample: Sample, group: str, choices: Sequence[str], seed: int, each: int = 1) -> list[tuple[str, str]]:
    """Captions with one of the choices hidden, and that word; which places is a function of the key.

    A word behind an article is left on scenes: "an" gives an orange star away without a look.
    """
    places = [
        (text, match)
        for text in sample.texts
        for match in _WORD.finditer(text)
        if _may_be_hidden(match.group().lower(), choices) and not (group != CONTENT and _behind_article(text, match))
    ]
    first = hash_to_int("hidden word", seed, sample.key, group)
    chosen = [places[(first + number) % len(places)] for number in range(min(each, len(places)))]
    return [(text[: match.start()] + MASK + text[match.end() :], match.group().lower()) for text, match in chosen]


def words_of(sample: Sample) -> frozenset[str]:
    """What is true of a picture: the colours and shapes of a scene, elsewhere the words of its captions."""
    if _is_scene(sample):
        return frozenset(str(one[name]) for one in sample.meta["objects"] for name in SCENE_WORDS)
    return frozenset(match.lower() for text in sample.texts for match in re.findall(r"[^\W\d_]+", text))


def frequent_words(samples: Sequence[Sample], most: int) -> tuple[str, ...]:
    """The words with content that stand in most captions, in alphabetic order; of scenes none are needed."""
    counts = Counter(
        word
        for sample in samples
        if most and not _is_scene(sample)
        for text in sample.texts
        for word in {match.lower() for match in _WORD.findall(text)} - _FUNCTION_WORDS
    )
    by_count = sorted(counts, key=lambda word: (-counts[word], word))
    return tuple(sorted(by_count[:most]))


def _untrue(truths: Sequence[frozenset[str]], word: str, index: int) -> bool:
    return word not in truths[index]


def _groups(sample: Sample, frequent: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return SCENE_WORDS if _is_scene(sample) else {CONTENT: frequent}


def _is_scene(sample: Sample) -> bool:
    objects = sample.meta.get("objects")
    return isinstance(objects, list) and all(isinstance(one, dict) and one.keys() >= {*SCENE_WORDS} for one in objects)


def _may_be_hidden(word: str, choices: Sequence[str]) -> bool:
    return word in _as_set(tuple(choices)) if choices else word not in _FUNCTION_WORDS


def _behind_article(text: str, match: re.Match[str]) -> bool:
    before = text[: match.start()].split()
    return bool(before) and before[-1].lower() in _ARTICLES


@lru_cache(maxsize=8)
def _as_set(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(words)
