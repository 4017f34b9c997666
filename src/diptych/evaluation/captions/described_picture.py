"""A picture that is to be described, with the objects that are known to be in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from diptych.core.visual import Image


@dataclass(frozen=True)
class Described:
    """One picture.

    Attributes:
        key: of its record.
        image: reads it; None where the user does not have it.
        objects: in it, by the names that the vocabulary gives them.
    """

    key: str
    image: Callable[[], Image | None]
    objects: frozenset[str]
