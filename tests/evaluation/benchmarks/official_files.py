"""What the readers of official files are tested with: pictures of one colour, and a model that knows colours."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor, nn

from diptych.capabilities.predictor import Predictor
from diptych.data.pixels.decode import decode

COLOURS = ("red", "lime", "blue")


class KnowsColours(Predictor):
    """Scores a text by how early it names the colour of the picture's middle; nothing named scores lowest."""

    VERBS = ("score",)
    name = "knows colours"

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1)

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        rows = []
        for visual in visuals:
            pixels = decode(visual, visual.name)
            colour = COLOURS[int(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].argmax())]
            rows.append([-float(text.find(colour)) if colour in text else -1e3 for text in texts])
        return torch.tensor(rows)

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls()


def paint(folder: Path, *names: str) -> None:
    """`red.png` and so on below `images`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (20, 20), name).save(folder / "images" / f"{name}.png")


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
