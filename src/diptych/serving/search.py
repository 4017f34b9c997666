"""Finding pictures by words or by another picture: by their vectors, or by asking a model that has none about each.

N pictures, D width.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable, Verb
from diptych.core.errors import ConfigError
from diptych.core.visual import Image
from diptych.serving.job import Answered, Ask, Row
from diptych.serving.refusal import require_comparable, require_verb


def cache_folder(model: str, pictures: str) -> Path:
    """Where the index of a model and a folder lies when the user names no place.

    Args:
        model, pictures: as the user named them.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = blake2b(digest_size=8)
    for name in (model, pictures):
        place = str(Path(name).resolve()) if Path(name).exists() else name
        digest.update(place.encode("utf-8", "surrogateescape") + b"\0")
    return root / "diptych" / "search" / digest.hexdigest()


def has_vectors(model: Predictor, by_text: bool) -> bool:
    """Whether a search goes by vectors, of which an index can be kept; otherwise every picture is scored anew.

    Raises:
        MissingVerb: the model can do neither.
        NotComparable: its score does not compare pictures.
    """
    if Verb.ENCODE_IMAGE in model.verbs and (not by_text or Verb.ENCODE_TEXT in model.verbs):
        return True
    if not by_text or Verb.SCORE not in model.verbs or not model.READS_TEXT:
        require_verb(model, Verb.ENCODE_TEXT if by_text and Verb.ENCODE_IMAGE in model.verbs else Verb.ENCODE_IMAGE)
    require_comparable(model, Comparable.VISUALS, "a search compares the pictures of one text")
    return False


def query_vector(model: Any, text: str | None, picture: Image | None) -> Tensor:
    """[D] of what is searched for.

    Raises:
        ConfigError: neither a text nor a picture, or both.
        BadSample: the picture cannot be decoded.
    """
    check_query(text, picture)
    found: Tensor = model.encode_text([text]) if picture is None else model.encode_image([picture])
    return checked(found, model, "the query")[0]


def check_query(text: str | None, picture: Any | None) -> None:
    """Raises a ConfigError where there is not one thing to search for."""
    if (text is None) == (picture is None):
        raise ConfigError("search for words or for a picture: give a query, or --picture FILE")
    if text is not None and not text.strip():
        raise ConfigError("the query is empty")


def scorer(model: Any, text: str) -> Ask:
    """Scores pictures for a text, one by one, for a model without vectors."""

    def ask(keys: Sequence[str], images: Sequence[Image]) -> list[Row]:
        scores_N1 = checked(model.score(list(images), [text]), model, keys[0])
        return [{"score": float(score)} for score in scores_N1[:, 0]]

    return ask


def best(answered: Sequence[Answered], top: int) -> list[Answered]:
    """The highest scores, best first; equal ones in the order of their keys."""
    return sorted(answered, key=lambda one: (-float(one.row["score"]), one.key))[:top]
