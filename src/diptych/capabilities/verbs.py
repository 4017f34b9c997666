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
    PROMPT_LIKELIHOOD = "prompt_likelihood"
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
    """A verb that the field knows how to define from others.

    Attributes:
        comparable: over what scores that come by this rule may be compared; None for what the verb it needs says, and
            for verbs that are no scores.
    """

    verb: Verb
    needs: tuple[Verb, ...]
    how: str
    comparable: Comparable | None = None


# log p(text | visual) ranks the visuals of one text by itself. Texts of other lengths are compared per token, as the
# field does; how likely a text is without any visual still counts then, so benchmarks print a corrected score beside it
# (evaluation/blind_likelihood.py). log p(visual | text) is of one visual: those of two visuals are not comparable.
RULES = (
    Rule(Verb.SCORE, (Verb.ENCODE_IMAGE, Verb.ENCODE_TEXT), "cosine of encodings", Comparable.BOTH),
    Rule(Verb.SCORE, (Verb.SCORE_PAIRS,), "matching score of every pair"),
    Rule(Verb.SCORE_PAIRS, (Verb.ENCODE_IMAGE, Verb.ENCODE_TEXT), "cosine of each pair's encodings", Comparable.BOTH),
    Rule(Verb.SCORE_PAIRS, (Verb.SCORE,), "score of each pair"),
    Rule(Verb.SCORE_PAIRS, (Verb.TEXT_LIKELIHOOD,), "log-likelihood of the text per token", Comparable.BOTH),
    Rule(Verb.SCORE_PAIRS, (Verb.IMAGE_LIKELIHOOD,), "log-likelihood of the picture given the text", Comparable.TEXTS),
    Rule(Verb.ANSWER, (Verb.TEXT_LIKELIHOOD,), "likeliest of the choices"),
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


def comparable_by_rule(native: Iterable[str], verb: Verb = Verb.SCORE) -> Comparable:
    """Over what a score may be compared: what the first rule on its way from the native verbs says.

    Args:
        native: the verbs a model declares.

    Returns:
        BOTH for a native score; a model whose own score supports less says so itself.
    """
    had = reachable(native)
    while (origin := had.get(verb)) is not None and origin.rule is not None:
        if origin.rule.comparable is not None:
            return origin.rule.comparable
        verb = origin.rule.needs[0]
    return Comparable.BOTH


def missing(
    native: Iterable[str], required: Iterable[str], *, reads_text: bool = True, sentences: bool = False
) -> list[Verb]:
    """The required verbs that a model with these native ones cannot have.

    Args:
        required: verbs; alternatives of which one is enough are one name, parted by "|", and the first is named.
        reads_text: False for a model whose `score` knows the names of its own classes and no other text.
        sentences: whether any text is to be scored, for which such a model lacks `encode_text`.
    """
    had = reachable(native)
    asked = [[Verb(one) for one in name.split("|")] for name in required]
    lacking = [alternatives[0] for alternatives in asked if not had.keys() & set(alternatives)]
    return lacking or ([Verb.ENCODE_TEXT] if sentences and not reads_text else [])
