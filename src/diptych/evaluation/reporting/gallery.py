"""Right and wrong examples with their pictures.

A result's `extras["gallery"]` is a list of
    {"key": the query's sample, "query": "" when its picture asks, else the caption that asks,
     "right": whether the first answer is true, "rank": where the first true answer came (1 is first),
     "truth": the true answer as text, or its sample's key, "top": [answers, best first]}
where an answer is a text, or {"key": a picture's sample, "text": a caption, "score": a number}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diptych.core.records.results import Result
from diptych.evaluation.reporting.pictures import Album

MOST_OF_A_KIND = 4
MOST_ANSWERS = 3


@dataclass(frozen=True)
class Answer:
    """One ranked answer: a text, a picture or both."""

    text: str
    picture: str
    right: bool


@dataclass(frozen=True)
class Example:
    """One query with what was ranked first."""

    key: str
    picture: str
    query: str
    right: bool
    rank: int | None
    truth: str
    truth_picture: str
    top: list[Answer]


@dataclass(frozen=True)
class Gallery:
    """Examples of one result, and why their pictures are missing if they are."""

    right: list[Example]
    wrong: list[Example]
    problem: str


def gallery(result: Result, album: Album) -> Gallery | None:
    """The examples of a result; None when it has none."""
    entries: list[dict[str, Any]] = result.extras.get("gallery") or []
    if not entries:
        return None
    chosen = [_first(entries, right=True), _first(entries, right=False)]
    album.open(key for group in chosen for entry in group for key in _keys(entry))
    right, wrong = ([_example(entry, album) for entry in group] for group in chosen)
    return Gallery(right, wrong, album.problem)


def _first(entries: Sequence[dict[str, Any]], *, right: bool) -> list[dict[str, Any]]:
    return [entry for entry in entries if bool(entry["right"]) is right][:MOST_OF_A_KIND]


def _keys(entry: dict[str, Any]) -> list[str]:
    answers = [answer["key"] for answer in entry["top"] if isinstance(answer, dict) and answer.get("key")]
    return [str(entry["key"]), str(entry["truth"]), *map(str, answers)]


def _example(entry: dict[str, Any], album: Album) -> Example:
    truth, query = str(entry["truth"]), str(entry.get("query") or "")
    return Example(
        key=str(entry["key"]),
        picture=album.uri(str(entry["key"])) if not query else "",
        query=query,
        right=bool(entry["right"]),
        rank=entry.get("rank"),
        truth=truth,
        truth_picture=album.uri(truth),
        top=[_answer(answer, truth, album) for answer in entry["top"][:MOST_ANSWERS]],
    )


def _answer(plain: Any, truth: str, album: Album) -> Answer:
    if not isinstance(plain, dict):
        return Answer(str(plain), "", str(plain) == truth)
    key, text = str(plain.get("key") or ""), str(plain.get("text") or "")
    return Answer(text, album.uri(key) if key else "", truth in (key, text))
