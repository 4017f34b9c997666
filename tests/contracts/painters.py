"""Made-up painters of scenes for the tests of text to image: what each gets right is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import nn

from diptych.capabilities.generator import OWN_WAY
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import TextTooLong
from diptych.core.sampling import ImageSampling, seeds_for
from diptych.core.visual import Image
from diptych.data.scenes.render import render
from diptych.data.scenes.source import Scenes
from diptych.data.scenes.world import COLOURS, Scene


class Painter(Predictor):
    """Draws the scene that a caption is of, exactly."""

    VERBS = ("generate_image",)

    def __init__(self, source: Scenes) -> None:
        self.scenes = {text: source.scene(i) for i in range(len(source)) for text in reversed(source[i].texts)}
        self.place = {text: i for i in range(len(source)) for text in source[i].texts}
        self.first = source.scene(0)
        self.name, self.module = "painter", nn.Linear(1, 1)
        nn.init.ones_(self.module.weight)
        nn.init.ones_(self.module.bias)
        self.asked: list[tuple[str, int, ImageSampling]] = []

    def generate_image(
        self, texts: Sequence[str], seeds: int | Sequence[int] = 0, sampling: ImageSampling = OWN_WAY
    ) -> list[Image]:
        own = seeds_for(len(texts), seeds, "texts")
        self.asked += [(text, seed, sampling) for text, seed in zip(texts, own, strict=True)]
        return [self.painted(text) for text in texts]

    def painted(self, text: str) -> Image:
        return Image(pixels_HWC=render(self.scene(text)))

    def scene(self, text: str) -> Scene:
        return self.scenes[text]

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        raise NotImplementedError


class Blind(Painter):
    """One scene, whatever it is told."""

    def scene(self, text: str) -> Scene:
        return self.first


class HalfRight(Painter):
    """Every other picture is right; the rest is grey."""

    def painted(self, text: str) -> Image:
        if self.place[text] % 2 == 0:
            return super().painted(text)
        return Image(pixels_HWC=np.full((64, 64, 3), 128, np.uint8))


class WrongColours(Painter):
    """The right shapes in the right places, in colours that are not in the scene."""

    def scene(self, text: str) -> Scene:
        scene = super().scene(text)
        other = next(name for name in COLOURS if name not in {one.colour for one in scene.objects})
        return replace(scene, objects=tuple(replace(one, colour=other) for one in scene.objects))


class Mirrors(Painter):
    """The right objects on the other side."""

    def scene(self, text: str) -> Scene:
        scene = super().scene(text)
        last = scene.side - 1
        return replace(scene, objects=tuple(replace(one, y=last - one.y, x=last - one.x) for one in scene.objects))


class OneMissing(Painter):
    """Without the first object that the scene holds."""

    def scene(self, text: str) -> Scene:
        scene = super().scene(text)
        return replace(scene, objects=scene.objects[1:])


class ShortOfMemory(Painter):
    """Has no room for one of the prompts."""

    def generate_image(
        self, texts: Sequence[str], seeds: int | Sequence[int] = 0, sampling: ImageSampling = OWN_WAY
    ) -> list[Image]:
        if any(self.place[text] == 3 for text in texts):
            raise TextTooLong("too many words")
        return super().generate_image(texts, seeds, sampling)
