"""Pictures with hidden cells, as a model fills them in: with their own caption, and with another's.

N pictures, R x C cells, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.capabilities.predictor import ImageFiller
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.visual import Image
from diptych.data.pixels.cells import hidden_pixels
from diptych.data.pixels.decode import decode
from diptych.data.pixels.thumbnail import png
from diptych.evaluation.derangement import Derangement

GREY = 128
EXACT = 1e-10
"""The smallest squared error, of values in [0, 1]: PSNR ends at 100 dB."""


@dataclass(frozen=True)
class Captioned:
    """A picture with its caption, another's, and which of its cells are hidden."""

    sample: Sample
    own: str
    other: str
    hidden_RC: Tensor


@dataclass(frozen=True)
class Filled:
    """What became of one picture, all of it [H, W, 3] in [0, 1].

    Attributes:
        seen: as the model sees it, nothing hidden.
        own, other: filled in with its own caption, and with the other one.
        hidden_HW: the pixels of the hidden cells.
    """

    seen: NDArray[np.float64]
    own: NDArray[np.float64]
    other: NDArray[np.float64]
    hidden_HW: NDArray[np.bool_]

    def errors(self) -> tuple[float, float, float]:
        """Mean squared error over the hidden cells: own caption, other caption, mean colour of the visible cells."""
        truth_P3 = self.seen[self.hidden_HW]
        colour_3 = self.seen[~self.hidden_HW].mean(0)
        answers = (self.own[self.hidden_HW], self.other[self.hidden_HW], colour_3[None])
        own, other, flat = (max(float(np.square(answer - truth_P3).mean()), EXACT) for answer in answers)
        return own, other, flat


def hidden_cells(key: str, cells: int, block: int, share: float, seed: int) -> Tensor:
    """[cells, cells] bool: whole blocks of cells, as many as come nearest to the share; a function of the key."""
    side = -(-cells // block)
    count = min(max(round(share * side * side), 1), side * side - 1)
    rng = np.random.Generator(np.random.PCG64(hash_to_int("hidden cells", seed, key)))
    blocks = np.zeros(side * side, bool)
    blocks[rng.permutation(side * side)[:count]] = True
    whole = blocks.reshape(side, side).repeat(block, 0).repeat(block, 1)
    return torch.from_numpy(whole[:cells, :cells].copy())


def other_captions(samples: Sequence[Sample], seed: int) -> list[str | None]:
    """For each sample a caption of another one: of a scene without any of its objects; elsewhere none of its own."""
    others = Derangement([sample.key for sample in samples], seed)
    facts = [_facts(sample) for sample in samples]
    found: list[str | None] = []
    for index, own in enumerate(facts):
        other = others.of(index, partial(_share_nothing, facts, own))
        found.append(None if other is None else caption_of(samples[other]))
    return found


def _share_nothing(facts: Sequence[frozenset[str]], own: frozenset[str], index: int) -> bool:
    return not facts[index] & own


def caption_of(sample: Sample) -> str:
    """The first caption that says something; "" where there is none."""
    return next((text for text in sample.texts if text.strip()), "")


def _facts(sample: Sample) -> frozenset[str]:
    return frozenset(sample.meta.get("present") or sample.texts)


def fill(model: ImageFiller, asked: Sequence[Captioned]) -> list[Filled]:
    """Fills the pictures in, both ways.

    Raises:
        BadSample: a picture cannot be decoded.
    """
    images = [one.sample.image for one in asked]
    own, other = [one.own for one in asked], [one.other for one in asked]
    hidden_NRC = torch.stack([one.hidden_RC for one in asked])
    seen = _arrays(model.fill_image(images, own, torch.zeros_like(hidden_NRC)))
    by_own = _arrays(model.fill_image(images, own, hidden_NRC))
    by_other = _arrays(model.fill_image(images, other, hidden_NRC))
    hidden = [hidden_pixels(one.hidden_RC[None], *seen[index].shape[:2])[0] for index, one in enumerate(asked)]
    return [
        Filled(whole, first, second, where.numpy())
        for whole, first, second, where in zip(seen, by_own, by_other, hidden, strict=True)
    ]


def _arrays(images: Sequence[Image]) -> list[NDArray[np.float64]]:
    return [decode(image).astype(np.float64) / 255 for image in images]


def shown_rows(asked: Sequence[Captioned], filled: Sequence[Filled]) -> list[dict[str, Any]]:
    """Rows of pictures for the report: whole, hidden, filled in both ways."""
    rows = []
    for one, found in zip(asked, filled, strict=True):
        covered = np.where(found.hidden_HW[..., None], GREY / 255, found.seen)
        pictures = {
            "picture": found.seen,
            "hidden": covered,
            f"with its own caption: {one.own}": found.own,
            f"with another's: {one.other}": found.other,
        }
        images = [{"title": title, "png": png(_image(pixels))} for title, pixels in pictures.items()]
        rows.append({"key": one.sample.key, "caption": one.own, "images": images})
    return rows


def _image(pixels_HWC: NDArray[np.float64]) -> Image:
    return Image(pixels_HWC=np.rint(pixels_HWC * 255).astype(np.uint8))
