"""A predictor with two weights, for the tests of what is built on verbs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.capabilities.predictor import Predictor


class ToyPredictor(Predictor):
    """Pictures are their three mean colours; a text is the colour it names."""

    VERBS = ("encode_image", "encode_text")
    name = "toy"

    def __init__(self, gain: float = 1.0) -> None:
        self.module = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.module.weight)
        self.gain = gain

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        rows = torch.stack([torch.as_tensor(v).float().mean((0, 1)) for v in visuals])
        with torch.no_grad():
            return F.normalize(self.module(rows) * self.gain, dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = [[1.0 * (name in text) for name in ("red", "green", "blue")] for text in texts]
        return F.normalize(torch.tensor(rows), dim=-1)

    def describe(self) -> dict[str, Any]:
        return {"gain": self.gain}

    def save_files(self, folder: Path) -> None:
        (folder / "words.txt").write_text("red green blue")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        assert (folder / "words.txt").is_file()
        return cls(description["gain"])
