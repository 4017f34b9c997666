"""Models that see nothing but the mean colour of a picture, and pictures for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.capabilities.folder import write_model
from diptych.capabilities.generator import GREEDY
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import TextTooLong
from diptych.core.sampling import TextSampling
from diptych.data.pixels.images import ImagePreprocessing, pixels_of

COLOURS = {"red": (200, 50, 40), "green": (50, 180, 60), "blue": (40, 60, 200)}


class ColourEncoder(Predictor):
    """Pictures are their mean colours; a text is the colour it names."""

    VERBS = ("encode_image", "encode_text")
    name = "colour_encoder"

    def __init__(self, size: int = 8) -> None:
        self.module = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.module.weight)
        self.preprocessing = ImagePreprocessing(size, views=None)

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        with torch.no_grad():
            means_N3 = pixels_of(visuals, self.preprocessing, 1).float().mean((2, 3))
            return F.normalize(self.module(means_N3 - means_N3.mean(1, keepdim=True)), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows_N3 = torch.tensor([[2.0 * (name in text) - 1 for name in COLOURS] for text in texts])
        return F.normalize(rows_N3, dim=-1)

    def describe(self) -> dict[str, Any]:
        return {"size": self.preprocessing.size}

    def save_files(self, folder: Path) -> None:
        pass

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls(description["size"])


class ColourTalker(ColourEncoder):
    """Says the colour, and yes or no where it is asked about one."""

    VERBS = ("encode_image", "encode_text", "generate_text", "answer")
    name = "colour_talker"

    def colours(self, visuals: Sequence[Any]) -> list[str]:
        places = (self.encode_image(visuals) @ self.encode_text(list(COLOURS)).T).argmax(1)
        return [list(COLOURS)[int(place)] for place in places]

    def generate_text(
        self, prompts: Sequence[Any], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        if any(len(str(prompt[1])) > 40 for prompt in prompts if len(prompt) > 1):
            raise TextTooLong("the prompt does not fit")
        behind = [f", {prompt[1]}" if len(prompt) > 1 else "" for prompt in prompts]
        found = self.colours([prompt[0] for prompt in prompts])
        return [f"a {colour}\npicture{more}" for colour, more in zip(found, behind, strict=True)]

    def answer(
        self, visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        found = zip(self.colours(visuals), questions, strict=True)
        return ["yes" if colour in question else "no" for colour, question in found]


def picture(colour: str, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Pillow.Image:
    """A noisy picture of one colour."""
    noise = np.random.default_rng(seed).normal(0, 25, (size[1], size[0], 3))
    return Pillow.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8))


def fill(folder: Path, count: int = 2) -> Path:
    """`count` pictures of each colour, in folders of their names."""
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for index in range(count):
            picture(colour, index).save(folder / colour / f"{index:03d}.png")
    return folder


def saved(model: Predictor, folder: Path) -> str:
    """The model as a folder that `diptych.load` reads."""
    folder.mkdir()
    write_model(model, folder)
    return str(folder)
