"""How texts and pictures are drawn from a model: what a caller may choose, the same for every model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diptych.core.errors import ConfigError
from diptych.core.seeding import hash_to_int


@dataclass(frozen=True)
class TextSampling:
    """How texts are drawn.

    Attributes:
        max_tokens: the most new tokens.
        temperature: divides the logits; 0 takes the likeliest token each time (greedy).
        top_k: only the so many likeliest tokens are drawn from; 0 for all.
        top_p: only the likeliest tokens that together have this share are drawn from (nucleus).
        beams: beam search of so many rows instead of drawing; 1 for none.
        length_penalty: beams are ranked by their log-probability over their length to this power.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.beams < 1:
            raise ConfigError(f"max_tokens {self.max_tokens} and beams {self.beams} must be at least 1")
        _check_draws(self.temperature, self.top_k, self.top_p)
        if self.beams > 1 and self.temperature > 0:
            raise ConfigError(f"{self.beams} beams are searched, not drawn: leave temperature at 0, or beams at 1")


@dataclass(frozen=True)
class ImageSampling:
    """How pictures are drawn; what a model has no use for must be left alone.

    Attributes:
        guidance: weight of the prompt against no prompt: 1 for the prompt's own distribution, 0 for none; None for the
            model's own choice.
        steps: of a diffusion sampler; 0 for the model's own choice.
        temperature: of token models, as for texts; None for the model's own choice.
        top_k, top_p: the same.
        candidates: pictures drawn for each prompt, of which a model that can rank them keeps the best.
    """

    guidance: float | None = None
    steps: int = 0
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    candidates: int = 1

    def __post_init__(self) -> None:
        if self.guidance is not None and not 0 <= self.guidance < math.inf:
            raise ConfigError(
                f"guidance {self.guidance} is negative or no number: give 0 for no prompt, 1 for the prompt alone, more"
            )
        if self.steps < 0 or self.candidates < 1:
            raise ConfigError(f"steps {self.steps} must be 0 or more, and candidates {self.candidates} at least 1")
        _check_draws(self.temperature or 0.0, self.top_k, self.top_p)

    def of_codes(self, count: int, own: float) -> TextSampling:
        """How a picture's codes are drawn, where a model writes them like words.

        Args:
            own: the model's temperature.
        """
        return TextSampling(count, own if self.temperature is None else self.temperature, self.top_k, self.top_p)


def _check_draws(temperature: float, top_k: int, top_p: float) -> None:
    if not 0 <= temperature < math.inf or top_k < 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"temperature {temperature} and top_k {top_k} must not be negative, and top_p {top_p} is a share above 0 "
            f"and up to 1"
        )


def seeds_for(count: int, seeds: int | Sequence[int], purpose: str) -> list[int]:
    """One seed for each of `count` draws.

    Args:
        seeds: one of which each draw's is made, by its place; or one for each.
        purpose: what is drawn, for the message.

    Raises:
        ConfigError: there are more or fewer seeds than draws.
    """
    if isinstance(seeds, int):
        return [hash_to_int("draw", seeds, place) for place in range(count)]
    if len(seeds) != count:
        raise ConfigError(f"{len(seeds)} seeds for {count} {purpose}: give one seed, or one for each")
    return list(seeds)
