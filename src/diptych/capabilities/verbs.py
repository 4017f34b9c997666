"""The verbs by which every benchmark meets every model, and the rules by which one is had from others.

No torch here: `diptych list matrix` reads this file and the literals of the model and benchmark files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verb(StrEnum):
    """What a model may offer (docs/architecture.md has the signatures)."""

    ENCODE_IMAGE = "encode_image"
    ENCODE_TEXT = "encode_text"
    SCORE = "score"
    SCORE_PAIRS = "score_pairs"
    TEXT_LIKELIHOOD = "text_likelihood"
    IMAGE_LIKELIHOOD = "image_likelihood"
    GENERATE_TEXT = "generate_text"
    CONTINUE_DOCUMENT = "continue_document"
    ANSWER = "answer"
    FILL_TEXT = "fill_text"
    FILL_IMAGE = "fill_image"
    LOCATE = "locate"
    GENERATE_IMAGE = "generate_image"
    TOKENIZE_IMAGE = "tokenize_image"
    RECONSTRUCT = "reconstruct"


class Comparable(StrEnum):
    """Over what a score may be compared: the texts of one visual, the visuals of one text, or both."""

    TEXTS = "texts"
    VISUALS = "visuals"
    BOTH = "both"


@dataclass(frozen=True)
class Rule:
    """A verb that the field knows how to define from others."""

    verb: Verb
    needs: tuple[Verb, ...]
    how: str


RULES = (
    Rule(Verb.SCORE, (Verb.ENCODE_IMAGE, Verb.ENCODE_TEXT), "cosine of encodings"),
    Rule(Verb.SCORE, (Verb.SCORE_PAIRS,), "matching score of every pair"),
    Rule(Verb.SCORE_PAIRS, (Verb.ENCODE_IMAGE, Verb.ENCODE_TEXT), "cosine of each pair's encodings"),
    Rule(Verb.SCORE_PAIRS, (Verb.SCORE,), "score of each pair"),
    Rule(Verb.ANSWER, (Verb.SCORE,), "highest score over the choices"),
)


@dataclass(frozen=True)
class Origin:
    """How a model has a verb."""

    how: str
    rule: Rule | None = None


def reachable(native: Iterable[str]) -> dict[Verb, Origin]:
    """Every verb that follows from the native ones, with how; earlier rules win.

    Args:
        native: the verbs a model declares.
    """
    verbs = {Verb(name): Origin("native") for name in native}
    grew = True
    while grew:
        grew = False
        for rule in RULES:
            if rule.verb not in verbs and all(need in verbs for need in rule.needs):
                verbs[rule.verb] = Origin(rule.how, rule)
                grew = True
    return verbs


def missing(
    native: Iterable[str], required: Iterable[str], *, reads_text: bool = True, sentences: bool = False
) -> list[Verb]:
    """The required verbs that a model with these native ones cannot have.

    Args:
        reads_text: False for a model whose `score` knows the names of its own classes and no other text.
        sentences: whether any text is to be scored, for which such a model lacks `encode_text`.
    """
    had = reachable(native)
    lacking = [Verb(name) for name in required if Verb(name) not in had]
    return lacking or ([Verb.ENCODE_TEXT] if sentences and not reads_text else [])
