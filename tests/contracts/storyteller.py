"""A made-up predictor with every verb that generates or says how likely: all of it by hashes of what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import GREEDY, OWN_WAY, Likelihood, Prompt
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DiptychError
from diptych.core.sampling import ImageSampling, TextSampling, seeds_for
from diptych.core.seeding import hash_to_int, unit_interval
from diptych.core.visual import Image, as_image
from diptych.data.pixels.images import ImagePreprocessing, pixels_of

WORDS = ("red", "green", "blue", "circle", "star", "square")
SIDE = 6


class Storyteller(Predictor):
    """Texts are words by a hash of prompt, seed and place; pictures are noise by a hash of text and seed."""

    VERBS: tuple[str, ...] = (
        "text_likelihood", "image_likelihood", "generate_text", "generate_image", "continue_document",
    )  # fmt: skip
    name = "storyteller"
    likelihood_is = "exact"

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1)

    def seen(self, visual: Any) -> int:
        """What it sees of a picture, as a number; of prepared ones too."""
        if visual is None:
            return 0
        pixels = pixels_of([as_image(visual)], ImagePreprocessing(SIDE, "squash"), 1)
        return int(pixels.long().sum())

    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        same_length(visuals, texts, "text_likelihood")
        counts = torch.tensor([len(text.split()) + 1 for text in texts])
        rows = [
            -unit_interval(self.seen(visual), prompt, text)
            for visual, prompt, text in zip(visuals, prompts, texts, strict=True)
        ]
        return Likelihood(torch.tensor(rows, dtype=torch.float64) * counts, counts)

    def image_likelihood(self, texts: Sequence[str | None], visuals: Sequence[Any]) -> Likelihood:
        same_length(visuals, texts, "image_likelihood")
        rows = [-100 * unit_interval(self.seen(visual), str(text)) for text, visual in zip(texts, visuals, strict=True)]
        return Likelihood(torch.tensor(rows, dtype=torch.float64), torch.full((len(rows),), SIDE * SIDE * 3))

    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        return [
            self.told(prompt, sampling, seed if sampling.temperature else 0)
            for prompt, seed in zip(prompts, seeds_for(len(prompts), seeds, "prompts"), strict=True)
        ]

    def told(self, prompt: Prompt, sampling: TextSampling, seed: int) -> str:
        """Up to `max_tokens` words."""
        parts = [part if isinstance(part, str) else self.seen(part) for part in prompt]
        draws = [hash_to_int(seed, place, *parts) for place in range(sampling.max_tokens)]
        return " ".join(WORDS[draw % len(WORDS)] for draw in draws)

    def generate_image(
        self, texts: Sequence[str], seeds: int | Sequence[int] = 0, sampling: ImageSampling = OWN_WAY
    ) -> list[Image]:
        if not all(text.split() for text in texts):
            raise DiptychError("a prompt has no words")
        return [
            self.painted(text, seed) for text, seed in zip(texts, seeds_for(len(texts), seeds, "texts"), strict=True)
        ]

    def painted(self, text: str, seed: int) -> Image:
        rng = np.random.Generator(np.random.PCG64(hash_to_int(text, seed)))
        return Image(pixels_HWC=rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))

    def continue_document(self, parts: Prompt, sampling: TextSampling = GREEDY, seed: int = 0) -> list[str | Image]:
        text = self.told(parts, sampling, seed)
        return [text, self.painted(text, seed)]

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls()
