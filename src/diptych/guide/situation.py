"""What a user needs and has, as given to `diptych choose`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError


class Need(StrEnum):
    """What the model is for."""

    RETRIEVAL = "retrieval"
    LABELS = "labels"
    MATCHING = "matching"
    CAPTIONS = "captions"
    ANSWERS = "answers"
    PICTURES = "pictures"


VERB_OF = {
    Need.RETRIEVAL: Verb.SCORE,
    Need.LABELS: Verb.SCORE,
    Need.MATCHING: Verb.SCORE_PAIRS,
    Need.CAPTIONS: Verb.GENERATE_TEXT,
    Need.ANSWERS: Verb.ANSWER,
    Need.PICTURES: Verb.GENERATE_IMAGE,
}


@dataclass(frozen=True)
class Situation:
    """Needs and means.

    Attributes:
        pairs: pictures with a text; images, texts: those that have no partner.
        boxes: whether regions of the pictures are known.
        parts: whether pretrained vision towers or language models are at hand and may be used.
        gpus: 0 for a processor alone.
        hours: of the whole machine; 0 where time is no matter.
    """

    needs: tuple[Need, ...]
    pairs: int = 0
    images: int = 0
    texts: int = 0
    boxes: bool = False
    parts: bool = False
    gpus: int = 0
    hours: float = 0.0

    def __post_init__(self) -> None:
        if not self.needs:
            raise ConfigError(f"say what the model is for: --need {' | '.join(Need)}")
        if min(self.pairs, self.images, self.texts, self.gpus, self.hours) < 0:
            raise ConfigError("counts, GPUs and hours are 0 or more")
        if not self.pairs:
            raise ConfigError(
                "without pictures that have a text nothing here learns what belongs together: give --pairs, or use "
                "public weights as they are (`diptych.load`)"
            )


def count(text: str) -> int:
    """ "400M" as 400,000,000; k, M and B are thousands, millions and billions.

    Raises:
        ConfigError: it is no number.
    """
    scale = {"k": 1e3, "m": 1e6, "b": 1e9}.get(text[-1:].lower(), 1.0)
    try:
        found = float(text if scale == 1.0 else text[:-1]) * scale
    except ValueError as error:
        raise ConfigError(f"'{text}' is no count: write 8000, 8k, 1.5M or 2B") from error
    return round(found)
