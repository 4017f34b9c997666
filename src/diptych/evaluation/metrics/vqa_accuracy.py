"""The soft accuracy of VQA, by the rule and with the normalisation of its official evaluation.

Antol et al. 2015, arXiv 1505.00468; Goyal et al. 2017, arXiv 1612.00837. Ten people answered each question. Each of
them is left out in turn: min(1, people among the other nine who gave this answer / 3), and the mean of the ten. Three
things are kept because numbers are compared with the official ones: nothing is normalised where all people gave the
same answer; of people's answers only the punctuation is, for they come with the rest done; and a period goes wherever
no digit follows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from diptych.core.errors import DataError

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = frozenset(["a", "an", "the"])
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()  # noqa: SIM905
_APOSTROPHES = {
    whole[:place] + whole[place + 1 :]: whole
    for whole in _CONTRACTIONS
    for place, letter in enumerate(whole)
    if letter == "'"
} | {"somebody'd": "somebodyd"}
"""What lacks one of its apostrophes; the last is as the official table has it."""
_PERIOD = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_REMEMBERED = 1 << 16
"""Answers whose plain form is kept: the same few are given again and again."""
_FEW = 4
"""With fewer answers no answer could be wholly right once one is left out."""


@lru_cache(maxsize=_REMEMBERED)
def without_marks(text: str) -> str:
    """Punctuation gone: a mark at the end or the beginning of a word vanishes, one within a word becomes a space."""
    found = text
    for mark in _MARKS:
        at_an_edge = f"{mark} " in text or f" {mark}" in text or _COMMA_IN_NUMBER.search(text)
        found = found.replace(mark, "" if at_an_edge else " ")
    return _PERIOD.sub("", found)


@lru_cache(maxsize=_REMEMBERED)
def plain_words(text: str) -> str:
    """Small letters, number words as digits, no articles, contractions with their apostrophes."""
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


def normalised(text: str) -> str:
    """Both."""
    return plain_words(without_marks(_one_line(text)))


def soft_accuracy(answer: str, references: Sequence[str]) -> float:
    """How many people agree: 0 to 1.

    With fewer than four references an answer is right or wrong: whether it is one of them, both normalised.

    Args:
        references: what people answered, one each, repeated as often as it was said.

    Raises:
        DataError: nobody answered.
    """
    answer, said = _comparable(answer, references)
    same = [one == answer for one in said]
    if len(said) < _FEW:
        return float(any(same))
    return sum(min(1.0, (sum(same) - own) / 3) for own in same) / len(same)


def accuracy_of_all(answer: str, references: Sequence[str]) -> float:
    """min(1, people who gave this answer / 3) with nobody left out: simpler, and never lower."""
    answer, said = _comparable(answer, references)
    same = sum(one == answer for one in said)
    return min(1.0, same / 3) if len(said) >= _FEW else float(same > 0)


def _comparable(answer: str, references: Sequence[str]) -> tuple[str, list[str]]:
    """The answer and the references as they are compared."""
    if not references:
        raise DataError("a question without a single reference answer cannot be scored")
    if len(references) < _FEW:
        return normalised(answer), [normalised(one) for one in references]
    said = [_one_line(one) for one in references]
    if len(set(said)) == 1:
        return _one_line(answer), said
    return normalised(answer), [without_marks(one) for one in said]


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
