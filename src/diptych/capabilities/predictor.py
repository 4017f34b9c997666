"""A trained model with its processor: what evaluation, curation and serving work with.

A model file subclasses `Predictor`, names its native verbs in `VERBS` and implements exactly these. A verb that
follows from them (verbs.RULES) is an attribute all the same; any other is refused by a sentence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from diptych.capabilities.verbs import Comparable, Origin, Verb, comparable_by_rule, reachable
from diptych.core.errors import MissingVerb
from diptych.core.visual import Box, Image


class Predictor(ABC):
    """A model and its processor, on one device, in evaluation mode.

    Attributes:
        VERBS: the native verbs, a literal in the model's file too.
        READS_TEXT: False where `score` knows class names only; a literal in the model's file too.
        comparable_over: what its `score` supports, by the rule that it follows from; a model whose native score
            supports less than both says so by an attribute of its own.
        ranks_by_cosine: whether the cosine of its encodings, where it has them, ranks as its `score` does; False for a
            model that looks at a picture and a text together.
        name: what reports call it.
        module: everything that has weights.
    """

    VERBS: ClassVar[tuple[str, ...]]
    READS_TEXT: ClassVar[bool] = True
    ranks_by_cosine: bool = True
    name: str
    module: nn.Module

    @property
    def comparable_over(self) -> Comparable:
        """Over what its scores may be compared."""
        return comparable_by_rule(self.VERBS)

    @property
    def verbs(self) -> frozenset[str]:
        """Every verb it answers to, native and derived."""
        return frozenset(reachable(self.VERBS))

    def how(self, verb: str) -> str:
        """How it has a verb: "native", or the rule's name.

        Raises:
            MissingVerb: it does not have it.
        """
        return self._origin(verb).how

    def _origin(self, verb: str) -> Origin:
        had = reachable(self.VERBS)
        if verb not in had:
            raise MissingVerb(self.name, verb, had)
        return had[Verb(verb)]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Reached only for what the class does not define: a derived verb, a missing one, or a plain mistake.
        if name not in Verb.__members__.values():
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        from diptych.capabilities.derive import derived

        return derived(self, self._origin(name), Verb(name))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Moves the weights."""
        self.module.to(device)
        return self

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values from which `restore` builds the same predictor: model config, processor config."""

    @abstractmethod
    def save_files(self, folder: Path) -> None:
        """Writes what is neither weights nor plain values: a tokenizer."""

    @classmethod
    @abstractmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        """The predictor of `describe` and `save_files`, with fresh weights."""


class ImageEncoder(Protocol):
    """Has `encode_image`."""

    name: str

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        """Paths, PIL images, arrays, Images, or one prepared float tensor [N, 3, H, W] -> unit vectors [N, D]."""
        ...


class TextEncoder(Protocol):
    """Has `encode_text`."""

    name: str

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Strings -> unit vectors [N, D]."""
        ...


class Scorer(Protocol):
    """Has `score`."""

    name: str

    @property
    def comparable_over(self) -> Comparable:
        """Over what its scores may be compared."""
        ...

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        """[N, M], higher matches better; comparable over what `comparable_over` says."""
        ...


class PairScorer(Protocol):
    """Has `score_pairs`."""

    name: str

    @property
    def comparable_over(self) -> Comparable:
        """Over what its scores may be compared."""
        ...

    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        """[N], the score of visual i with text i."""
        ...


class Answerer(Protocol):
    """Has `answer`."""

    name: str

    def answer(
        self, visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """One answer for each visual and question; one of `choices[i]` where they are given."""
        ...


class Locator(Protocol):
    """Has `locate`."""

    name: str

    def locate(self, visuals: Sequence[Any], phrases: Sequence[str]) -> list[Box | None]:
        """Where each phrase is in its picture, in pixels of the picture as it was given.

        Returns:
            one box a phrase, inside its picture and with an area, labelled with the phrase; None where the model gives
            none, or nothing that is one.

        Raises:
            DiptychError: not one phrase a visual.
            TextTooLong: a phrase does not fit the model.
            BadSample: a picture cannot be decoded.
        """
        ...


class TextFiller(Protocol):
    """Has `fill_text`."""

    name: str

    def fill_text(
        self, visuals: Sequence[Any], texts: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[list[str]]:
        """For each visual and text the words for its places, written "[MASK]", in order; [] where it has none.

        Args:
            choices: the words allowed in the places of each text; None for any word. A word of n tokens fills n mask
                tokens, and counts by its mean log-probability.

        Raises:
            TextTooLong: a text has no room for its words.
        """
        ...


class ImageFiller(Protocol):
    """Has `fill_image`."""

    name: str

    def fill_image(self, visuals: Sequence[Any], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
        """Each picture as the model prepares it, with predicted pixels in its hidden cells.

        Args:
            hidden_NRC: bool, R x C equal cells over the prepared picture, True where it is hidden. Nothing is seen of a
                patch that touches a hidden cell; with nothing hidden this is the picture as the model sees it.

        Raises:
            DiptychError: not one text and one grid of cells a picture.
        """
        ...


class Reconstructor(Protocol):
    """Has `reconstruct`."""

    name: str

    def reconstruct(self, visuals: Sequence[Any]) -> list[Image]:
        """Each picture as it comes back out of the model, in its size and geometry."""
        ...

    def as_seen(self, visuals: Sequence[Any]) -> list[Image]:
        """Each picture in the size and geometry of the model: what its reconstruction is compared with."""
        ...


class ImageTokenizer(Protocol):
    """Has `tokenize_image`.

    Attributes:
        vocabulary: how many codes there are.
    """

    name: str
    vocabulary: int

    def tokenize_image(self, visuals: Sequence[Any]) -> Tensor:
        """[N, h, w] int64: the codes of each picture."""
        ...
