"""diptych's side of the loader benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from diptych.data._pack_members import PictureFormat
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.loading.loader import Loader
from diptych.data.open import open_source
from diptych.data.pack import Pack
from diptych.data.pixels.views import Views
from diptych.data.split_names import ALL
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.normalise import Normalise

SIZE, BATCH = 224, 64

Epoch = Callable[[], int]
"""Runs an epoch; the number of pictures."""
Sides = dict[str, Callable[[], Epoch]]
"""What makes each side's epoch, in the process that runs it."""


def pack_raw(tars: Path, folder: Path) -> Path:
    """The corpus as raw members, the longest side 256: what ffcv's raw format holds too."""
    form = PictureFormat("raw", 256, "longest")
    Pack(open_source(str(tars), ALL), folder, form).run()
    return folder


def ours(tars: Path, raw: Path, scale: tuple[float, float], threads: int) -> Sides:
    """From JPEG and from raw members, with the cheaper settings as rows of their own."""
    image = ImagePreprocessing(SIZE, views=Views(crop_scale=scale))
    bilinear = replace(image, kernel="bilinear")
    half = replace(image, size=SIZE // 2)
    return {
        "diptych": partial(_epochs, tars, image, threads),
        "diptych, raw": partial(_epochs, raw, image, threads),
        "diptych, uint8": partial(_epochs, tars, image, threads, normalised=False),
        "diptych, bilinear": partial(_epochs, tars, bilinear, threads),
        "diptych, raw, uint8, bilinear": partial(_epochs, raw, bilinear, threads, normalised=False),
        "diptych, 112 pixels": partial(_epochs, tars, half, threads),
        "diptych, 112 pixels, scaled decoding": partial(_epochs, tars, replace(half, scaled_decoding=True), threads),
    }


def _epochs(tars: Path, image: ImagePreprocessing, threads: int, normalised: bool = True) -> Epoch:
    """Runs one epoch in another order each time; returns how many pictures it gave."""
    source = open_source(str(tars), ALL)
    tokenizer = Tokenizer.fit((text for i in range(500) for text in source[i].texts), 512)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(77)), tokenizer)
    normalise = Normalise(image.mean, image.std)
    out_BCHW = torch.empty(BATCH, 3, image.size, image.size)
    seed = 0

    def run() -> int:
        nonlocal seed
        seed += 1
        count = 0
        with Loader(source, processor, BATCH, seed, threads=threads) as loader:
            for _ in range(len(source) // BATCH):
                batch = next(loader)
                pixels_BCHW: Tensor = normalise(batch.pixels_BCHW, out_BCHW) if normalised else batch.pixels_BCHW
                count += len(pixels_BCHW)
        return count

    return run
