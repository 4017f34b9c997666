"""LAVE: a language model rates answers where words differ and the meaning does not.

Mañas et al. 2024, arXiv 2310.02567. The judge gets a task, eight examples with a reason and a rating each, and the
question with what people answered and the candidate; it rates 1 (wrong), 2 (incomplete) or 3 (right), and the score
is (rating - 1) / 2. References that a quarter as many people gave as the commonest one, or fewer, are left out;
questions of yes and no have examples of their own; what cannot be read counts as 2. The wording and the examples are
our own, so scores are not those of the published prompt: the prompt's hash stands in the result.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from diptych.core.errors import ConfigError, DataError
from diptych.evaluation.answers.text_judge import Writes

DROPPED = 0.25
UNREAD = 2
_RATING = re.compile(r"rating\W{0,3}(?:is\W)?\s*([1-3])(?![\d.]*\d)", re.IGNORECASE)
_ALONE = re.compile(r"^\W*([1-3])\W*$")

TASK = (
    "Rate an answer to a question about a picture. You are shown the question, the answers that people gave who saw "
    "the picture, and the candidate. First say in one sentence why, then rate: 1 for a wrong or unrelated candidate, 2 "
    "for one that is vague or only part of the answer, 3 for a right one, in whatever words. To a question of yes or "
    "no only yes or no is an answer; anything else is rated 1."
)


@dataclass(frozen=True)
class Demonstration:
    """A rated answer with its reason."""

    question: str
    references: tuple[str, ...]
    candidate: str
    reason: str
    rating: int


DEMONSTRATIONS = (
    Demonstration("What is on the table?", ("laptop", "laptop", "computer"), "a notebook computer",
                  "A notebook computer is a laptop.", 3),
    Demonstration("What colour is the bus?", ("red", "red and white", "red"), "blue",
                  "Nobody saw a blue bus.", 1),
    Demonstration("What are they playing?", ("tennis", "tennis", "doubles tennis"), "a ball game",
                  "Tennis is a ball game, but so are many others.", 2),
    Demonstration("How many birds are there?", ("3", "three", "3"), "three of them",
                  "People counted three.", 3),
    Demonstration("Where is the dog lying?", ("on the sofa", "couch", "sofa"), "indoors",
                  "A sofa stands indoors, but the place is not named.", 2),
    Demonstration("What does the sign say?", ("stop", "stop", "stop"), "one way",
                  "People read another word.", 1),
    Demonstration("What is the man wearing?", ("suit", "suit and tie", "black suit"), "a suit",
                  "People saw a suit.", 3),
    Demonstration("What time of day is it?", ("evening", "dusk", "sunset"), "midnight",
                  "It is dark at midnight, and people saw the sun go down.", 1),
)  # fmt: skip
BINARY = (
    Demonstration("Is the door open?", ("yes", "yes", "yes"), "yes", "People agree that it is open.", 3),
    Demonstration("Is it raining?", ("no", "no", "no"), "yes", "People say that it does not rain.", 1),
    Demonstration("Is there a cat?", ("yes", "yes", "yes"), "a black one",
                  "The question asks for yes or no, and the candidate says neither.", 1),
    Demonstration("Are they happy?", ("yes", "no", "yes"), "yes", "Most people say yes.", 3),
    Demonstration("Is this a kitchen?", ("no", "no", "no"), "no", "People agree that it is none.", 3),
    Demonstration("Is the train moving?", ("yes", "yes", "no"), "no",
                  "Some say no, but most people say that it moves.", 2),
    Demonstration("Is he wearing a hat?", ("no", "no", "no"), "a helmet",
                  "The question asks for yes or no, and the candidate says neither.", 1),
    Demonstration("Is the water calm?", ("yes", "yes", "yes"), "no", "People agree that it is calm.", 1),
)  # fmt: skip


@dataclass(frozen=True)
class Lave:
    """A judge with its prompt.

    Attributes:
        shots: how many examples it is shown.

    Raises:
        ConfigError: more examples than there are, or a negative number.
    """

    judge: Writes
    shots: int = len(DEMONSTRATIONS)

    def __post_init__(self) -> None:
        if not 0 <= self.shots <= len(DEMONSTRATIONS):
            raise ConfigError(f"{self.shots} examples for the judge: there are 0 to {len(DEMONSTRATIONS)}")

    def rated(self, question: str, references: Sequence[str], candidate: str) -> tuple[str, dict[str, float]]:
        """What the judge said of an answer, and its values: "lave", and "lave_unread" where no rating was found."""
        said = self.judge.write(judge_prompt(question, references, candidate, self.shots))
        rating = read_rating(said)
        return said, {"lave": score_of(rating), "lave_unread": float(rating is None)}

    def described(self) -> dict[str, str]:
        """What the ratings depend on."""
        return self.judge.described() | {"prompt": prompt_hash(self.shots), "examples": str(self.shots)}


def kept_references(references: Sequence[str]) -> list[str]:
    """Without those that few people gave; in the order of the alphabet, each as often as it was given.

    Raises:
        DataError: there are none.
    """
    if not references:
        raise DataError("a question without a single reference answer cannot be rated")
    counts = Counter(references)
    most = max(counts.values())
    return sorted(one for one in references if counts[one] / most > DROPPED)


def asks_yes_or_no(references: Sequence[str]) -> bool:
    """Whether the commonest answer is yes or no."""
    return Counter(references).most_common(1)[0][0].lower().rstrip(".") in ("yes", "no")


def judge_prompt(question: str, references: Sequence[str], candidate: str, shots: int) -> str:
    """What the judge reads.

    Args:
        shots: how many examples.
    """
    chosen = (BINARY if asks_yes_or_no(references) else DEMONSTRATIONS)[:shots]
    shown = [
        f"{_asked(one.question, one.references, one.candidate)} {one.reason} So rating={one.rating}" for one in chosen
    ]
    return "\n\n".join([TASK, *shown, _asked(question, kept_references(references), candidate)])


def _asked(question: str, references: Sequence[str], candidate: str) -> str:
    said = ", ".join(f"'{one}'" for one in references)
    return f"Question: '{question}'\nAnswers of people: {said}\nCandidate: '{candidate}'\nOutput:"


def read_rating(output: str) -> int | None:
    """1, 2 or 3; None where the judge named none, or several that differ."""
    found = set(_RATING.findall(output)) or set(_ALONE.findall(output))
    return int(found.pop()) if len(found) == 1 else None


def score_of(rating: int | None) -> float:
    """0, 1/2 or 1."""
    return ((UNREAD if rating is None else rating) - 1) / 2


def prompt_hash(shots: int) -> str:
    """Of the task, the examples and the form in which they are put."""
    parts = [judge_prompt("Q", (answer,), "C", shots) for answer in ("A", "yes")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
