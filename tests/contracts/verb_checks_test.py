"""The checks of masked models' verbs let an honest toy pass, and catch toys that cheat in one thing each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from contract import CAPTIONS, eight_samples
from torch import Tensor, nn
from verb_checks import masked_outputs, pairs_are_scored, patches_are_filled_in, words_are_filled_in

from diptych.capabilities.derive import same_length
from diptych.capabilities.predictor import Predictor
from diptych.core.visual import Image
from diptych.data.pixels.cells import check_cells, hidden_patches, hidden_pixels
from diptych.data.pixels.images import ImagePreprocessing, pixels_of
from diptych.data.words.cloze import MASK

SIDE, PATCH = 24, 6
WORDS = ("red", "green", "blue", "circle", "star", "square")


class Filler(Predictor):
    """Scores by mean colours, fills words by a hash of colour and text, and patches by the mean of what is visible."""

    VERBS = ("score_pairs", "fill_text", "fill_image")
    name = "filler"

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1)

    def colours(self, visuals: Sequence[Any]) -> Tensor:
        return pixels_of(visuals, ImagePreprocessing(SIDE, "squash"), 1).float().mean((2, 3)) / 255

    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        same_length(visuals, texts)
        weights = torch.tensor([[len(text), text.count("e"), text.count("r")] for text in texts]) / 10
        return (self.colours(visuals) * weights).sum(1)

    def fill_text(
        self, visuals: Sequence[Any], texts: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[list[str]]:
        same_length(visuals, texts, "fill_text")
        allowed = choices or [WORDS] * len(texts)
        picks = (self.colours(visuals).sum(1) * 1000).long().tolist()
        return [
            [words[(pick + place + len(text)) % len(words)] for place in range(text.count(MASK))]
            for pick, text, words in zip(picks, texts, allowed, strict=True)
        ]

    def fill_image(self, visuals: Sequence[Any], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
        same_length(visuals, texts, "fill_image")
        check_cells(hidden_NRC, len(visuals), SIDE, SIDE)
        own = pixels_of(visuals, ImagePreprocessing(SIDE, "squash"), 1).permute(0, 2, 3, 1)
        unseen = hidden_patches(hidden_NRC, SIDE, SIDE, PATCH).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
        filled = torch.where(hidden_pixels(hidden_NRC, SIDE, SIDE)[..., None], self.predicted(own, ~unseen), own)
        return [Image(pixels_HWC=one) for one in filled.numpy()]

    def predicted(self, own_NHWC: Tensor, visible_NHW: Tensor) -> Tensor:
        rows = [own[visible].float().mean(0).round() for own, visible in zip(own_NHWC, visible_NHW, strict=True)]
        return torch.stack(rows)[:, None, None].to(torch.uint8)

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls()


class SeesOtherPairs(Filler):
    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        found = super().score_pairs(visuals, texts)
        return found - found.mean()


class SeesPadding(Filler):
    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return super().score_pairs(visuals, texts) / max(map(len, texts))


class TakesAnyLengths(Filler):
    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        count = min(len(visuals), len(texts))
        return super().score_pairs(visuals[:count], texts[:count])


class ScoreDisagrees(Filler):
    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return torch.zeros(len(visuals), len(texts))


class WordsDependOnTheBatch(Filler):
    def fill_text(self, visuals: Any, texts: Any, choices: Any = None) -> list[list[str]]:
        moved = None if choices is None else [[*words[len(texts) - 1 :], *words[: len(texts) - 1]] for words in choices]
        return super().fill_text(visuals, texts, moved)


class IgnoresChoices(Filler):
    def fill_text(self, visuals: Any, texts: Any, choices: Any = None) -> list[list[str]]:
        return super().fill_text(visuals, texts)


class OneWordATextAlways(Filler):
    def fill_text(self, visuals: Any, texts: Any, choices: Any = None) -> list[list[str]]:
        return [words[:1] for words in super().fill_text(visuals, texts, choices)]


class RandomWords(Filler):
    draws = np.random.default_rng(0)

    def fill_text(self, visuals: Any, texts: Any, choices: Any = None) -> list[list[str]]:
        found = super().fill_text(visuals, texts, choices)
        allowed = choices or [WORDS] * len(texts)
        return [[str(self.draws.choice(a)) for _ in words] for words, a in zip(found, allowed, strict=True)]


class SeesHiddenPatches(Filler):
    """Hides cells but not the patches that they cut: the mean is over all that is no hidden cell, and a little more."""

    def predicted(self, own_NHWC: Tensor, visible_NHW: Tensor) -> Tensor:
        return super().predicted(own_NHWC, torch.ones_like(visible_NHW))


class ReturnsThePicture(Filler):
    def predicted(self, own_NHWC: Tensor, visible_NHW: Tensor) -> Tensor:
        return own_NHWC


class FillsWholePatches(Filler):
    """Predicted pixels in the visible cells that share a patch with a hidden one."""

    def fill_image(self, visuals: Any, texts: Any, hidden_NRC: Tensor) -> list[Image]:
        super().fill_image(visuals, texts, hidden_NRC)
        patches = hidden_patches(hidden_NRC, SIDE, SIDE, PATCH)
        return super().fill_image(visuals, texts, patches)


class CropsAgain(Filler):
    def fill_image(self, visuals: Any, texts: Any, hidden_NRC: Tensor) -> list[Image]:
        found = super().fill_image(visuals, texts, hidden_NRC)
        return [Image(pixels_HWC=np.roll(one.pixels_HWC, 1, 0)) for one in found if one.pixels_HWC is not None]


class TakesAnyCells(Filler):
    def fill_image(self, visuals: Any, texts: Any, hidden_NRC: Tensor) -> list[Image]:
        return super().fill_image(visuals, texts, hidden_NRC.bool())


def test_an_honest_model_passes() -> None:
    model, samples = Filler(), eight_samples()
    pairs_are_scored(model, samples, CAPTIONS)
    words_are_filled_in(model, samples)
    patches_are_filled_in(model, samples)
    found = masked_outputs(model, samples)
    assert found["score_pairs"].shape == found["fill_text"].shape == (8,)
    assert found["fill_image"].shape == (8, SIDE, SIDE, 3) and float(found["fill_image"].max()) <= 1.0


def scored(model: Predictor) -> None:
    pairs_are_scored(model, eight_samples(), CAPTIONS)


def words(model: Predictor) -> None:
    words_are_filled_in(model, eight_samples())


def patches(model: Predictor) -> None:
    patches_are_filled_in(model, eight_samples())


@pytest.mark.parametrize(
    ("model", "check", "complaint"),
    [
        (SeesOtherPairs, scored, "Tensor-likes are not close"),
        (SeesPadding, scored, "Tensor-likes are not close"),
        (TakesAnyLengths, scored, "not refused"),
        (ScoreDisagrees, scored, "Tensor-likes are not close"),
        (WordsDependOnTheBatch, words, "depends on the batch"),
        (IgnoresChoices, words, "out of"),
        (OneWordATextAlways, words, "one word a place"),
        (RandomWords, words, "not the same twice|depends on the batch"),
        (SeesHiddenPatches, patches, "hidden pixels are seen"),
        (ReturnsThePicture, patches, "hidden cells are the picture's own"),
        (FillsWholePatches, patches, "visible cells are not the picture's own"),
        (CropsAgain, patches, "prepared anew"),
        (TakesAnyCells, patches, "not refused"),
    ],
)
def test_a_cheat_is_caught(model: type[Filler], check: Callable[[Predictor], None], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(model())
