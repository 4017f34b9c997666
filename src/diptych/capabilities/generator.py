"""The verbs that say how likely texts and pictures are, and make new ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from diptych.core.sampling import ImageSampling, TextSampling
from diptych.core.visual import Image

GREEDY = TextSampling()
OWN_WAY = ImageSampling()

Prompt = Sequence[Any]
"""Texts (strings) and pictures (paths as `Path`, PIL images, arrays, Images) in order; examples first are few-shot."""


class Likelihood(NamedTuple):
    """How likely something is under a model.

    Attributes:
        log_N: natural logarithm of the probability, or of a lower bound of it; float64 on the CPU.
        counts_N: int64, of how many tokens, or numbers of a picture, it is the sum.
    """

    log_N: Tensor
    counts_N: Tensor

    @classmethod
    def joined(cls, parts: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """Of all rows, from the sums and counts of batches, wherever they are; there may be none."""
        none = (torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
        sums, counts = zip(none, *parts, strict=True)
        return cls(torch.cat([one.cpu() for one in sums]), torch.cat([one.cpu() for one in counts]))

    def mean(self) -> Tensor:
        """Per token [N]; 0 where there is none."""
        return self.log_N / self.counts_N.clamp(min=1)


class TextLikelihood(Protocol):
    """Has `text_likelihood`."""

    name: str

    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        """log p(text i | visual i, prompt i), summed over the text's tokens and its end.

        Args:
            visuals: None where nothing is shown.
            prompts: what stands before each text; "" for nothing.

        Raises:
            TextTooLong: a prompt with its text does not fit the model's context.
        """
        ...


class PromptLikelihood(Protocol):
    """Has `prompt_likelihood`."""

    name: str

    def prompt_likelihood(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Likelihood:
        """log p(text i | prompt i of texts and pictures in any order), summed over the text's tokens and its end.

        Raises:
            TextTooLong: a prompt with its text does not fit the model's context.
            DiptychError: not one text a prompt, or a prompt of parts that the model cannot take in this order.
        """
        ...


class ImageLikelihood(Protocol):
    """Has `image_likelihood`.

    Attributes:
        likelihood_is: what its numbers are: "exact over image tokens", "lower bound" ...
    """

    name: str
    likelihood_is: str

    def image_likelihood(self, texts: Sequence[str | None], visuals: Sequence[Any]) -> Likelihood:
        """log p(visual i | text i), or a lower bound of it; of no prompt where the text is None.

        Noise that it takes is a function of the visual alone, so that it is shared by the texts of one visual.
        """
        ...


class TextGenerator(Protocol):
    """Has `generate_text`."""

    name: str

    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        """A text that goes on after each prompt.

        Args:
            seeds: of the draws, where the sampling draws; one, or one a prompt.

        Raises:
            TextTooLong: a prompt has no room for one more token.
            ConfigError: not one seed a prompt.
            DiptychError: a prompt of parts that the model cannot take in this order.
        """
        ...


class ImageGenerator(Protocol):
    """Has `generate_image`."""

    name: str

    def generate_image(
        self, texts: Sequence[str], seeds: int | Sequence[int] = 0, sampling: ImageSampling = OWN_WAY
    ) -> list[Image]:
        """A picture of each text; the same for the same text, seed and sampling, whatever else is asked for with it.

        Raises:
            TextTooLong: a prompt does not fit.
            DiptychError: a prompt has no words.
            ConfigError: not one seed a text, or a sampling that the model has no use for.
        """
        ...


class DocumentWriter(Protocol):
    """Has `continue_document`."""

    name: str

    def continue_document(self, parts: Prompt, sampling: TextSampling = GREEDY, seed: int = 0) -> list[str | Image]:
        """What comes after the parts: texts and pictures in order, until the document ends.

        Args:
            sampling: its `max_tokens` counts those of texts and of pictures.

        Raises:
            TextTooLong: the parts do not fit the model's context.
        """
        ...
