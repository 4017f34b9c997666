"""Options behind letters, and which of them a written answer means."""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALONE = re.compile(r"(?<![A-Za-z'])\(?([A-Z])\)?(?![A-Za-z'])")
_BEGINS = re.compile(r"^\W*([A-Za-z])\s*(?:[).:,]|$)")


def lettered(question: str, options: Sequence[str], instruction: str) -> str:
    """The question, an option a line behind its letter, and the instruction."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *lines, *([instruction] if instruction else [])])


def read_letter(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer means; None where it means none, or several.

    In this order: the answer is an option's text; it begins with a letter as a label ("B", "b)", "C. two"); one letter
    of the options stands in it as a word of its own in capitals ("A" at a beginning is the article); one option's text
    stands in it, options that are part of a longer one that stands there left out.
    """
    plain = _plain(answer)
    if exact := [option for option in options if _plain(option) == plain]:
        return exact[0]
    known = LETTERS[: len(options)]
    if (begins := _BEGINS.match(answer.strip())) and begins[1].upper() in known:
        return options[known.index(begins[1].upper())]
    text = re.sub(r"^\s*A\s+(?=[a-z])(?!or\b|and\b)", "", answer)
    if len(found := {letter for letter in _ALONE.findall(text) if letter in known}) == 1:
        return options[known.index(found.pop())]
    return _named(plain, options)


def _named(plain: str, options: Sequence[str]) -> str | None:
    there = [option for option in options if re.search(rf"(?<!\w){re.escape(_plain(option))}(?!\w)", plain)]
    longest = [one for one in there if not any(other != one and _plain(one) in _plain(other) for other in there)]
    return longest[0] if len(longest) == 1 else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .")
