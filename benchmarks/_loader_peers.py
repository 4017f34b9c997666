"""The peers' sides of the loader benchmark, as their documentation uses them."""

from __future__ import annotations

import importlib.util
import io
import math
import random
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from _loader_ours import BATCH, SIZE, Epoch, Sides
from _measure import peer
from diptych.data.pixels.images import CLIP_MEAN, CLIP_STD
from diptych.data.pixels.resize import Window, resized
from diptych.layers.normalise import Normalise

MEAN, STD = np.array(CLIP_MEAN, np.float32) * 255, np.array(CLIP_STD, np.float32) * 255

Scale = tuple[float, float]


class PilView:
    """Random crop and resize by PIL, normalised in the worker: a view as float32 [3, 224, 224]."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    def __call__(self, encoded: bytes) -> Tensor:
        pixels_HWC = self.pixels(encoded).astype(np.float32)
        return torch.from_numpy(((pixels_HWC - MEAN) / STD).transpose(2, 0, 1).copy())

    def pixels(self, encoded: bytes) -> NDArray[np.uint8]:
        picture = Image.open(io.BytesIO(encoded)).convert("RGB")
        x, y, width, height = crop(*picture.size, self.scale)
        box = (x, y, x + width, y + height)
        return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box))


class FastView(PilView):
    """The same with simplejpeg and torch's resize kernel, as uint8 [224, 224, 3]: what a careful user would build."""

    def __call__(self, encoded: bytes) -> Tensor:
        pixels_HWC = simplejpeg.decode_jpeg(encoded, "RGB")
        window = Window(*crop(pixels_HWC.shape[1], pixels_HWC.shape[0], self.scale))
        return torch.from_numpy(resized(pixels_HWC, window, SIZE, SIZE))


def crop(width: int, height: int, scale: Scale) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop: left, top, width, height."""
    for _ in range(10):
        area = width * height * random.uniform(*scale)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, width - w), random.randint(0, height - h), w, h
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def webdataset_sides(tars: Path, scale: Scale, workers: int) -> Sides:
    """Shards shuffled, a shuffle buffer of 1,000 samples, batches made in the workers."""

    def side(view: PilView) -> Epoch:
        wds = peer("webdataset", "webdataset")
        urls = sorted(map(str, tars.glob("*.tar")))
        data = wds.WebDataset(urls, shardshuffle=len(urls), empty_check=False).shuffle(1000).to_tuple("jpg", "txt")
        batches = data.map_tuple(view, bytes.decode).batched(BATCH, partial=False)
        loader = wds.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=True)
        return lambda: drained(batch[0] for batch in loader)

    return {
        "webdataset + PIL": partial(side, PilView(scale)),
        "webdataset + our decoder and kernel, uint8": partial(side, FastView(scale)),
    }


def litdata_sides(jpegs: Path, folder: Path, scale: Scale, workers: int) -> Sides:
    """Its optimised chunks, shuffled."""

    def side(view: PilView) -> Epoch:
        litdata = peer("litdata", "litdata")
        if not folder.is_dir():
            paths = sorted(map(str, jpegs.glob("*.jpg")))
            options = {"num_workers": workers, "chunk_bytes": "32MB", "verbose": False}
            litdata.optimize(fn=_encoded, inputs=paths, output_dir=str(folder), **options)
        data = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=True, transform=_OfImage(view))
        options = {"num_workers": workers, "persistent_workers": True, "drop_last": True}
        loader = litdata.StreamingDataLoader(data, batch_size=BATCH, **options)
        return lambda: drained(loader)

    return {
        "litdata + PIL": partial(side, PilView(scale)),
        "litdata + our decoder and kernel, uint8": partial(side, FastView(scale)),
    }


class _OfImage:
    """Its workers may be spawned, so what they do must be importable."""

    def __init__(self, view: PilView) -> None:
        self.view = view

    def __call__(self, sample: dict[str, Any]) -> Tensor:
        return self.view(sample["image"])


def _encoded(path: str) -> dict[str, Any]:
    return {"image": Path(path).read_bytes()}


def ffcv_sides(jpegs: Path, folder: Path, scale: Scale, workers: int) -> Sides:
    """Its JPEG format and its raw format (longest side 256); it resizes with OpenCV's area kernel."""

    def side(name: str) -> Epoch:
        from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
        from ffcv.loader import Loader, OrderOption
        from ffcv.transforms import NormalizeImage, ToTensor, ToTorchImage

        write_ffcv(jpegs, folder, workers)
        decoder = RandomResizedCropRGBImageDecoder((SIZE, SIZE), scale=scale)
        steps = [decoder, NormalizeImage(MEAN, STD, np.float32), ToTensor(), ToTorchImage(channels_last=False)]
        loader = Loader(
            str(folder / name), batch_size=BATCH, num_workers=workers, order=OrderOption.RANDOM, drop_last=True,
            os_cache=True, pipelines={"image": steps, "label": None},
        )  # fmt: skip
        return lambda: drained(batch[0] for batch in loader)

    if importlib.util.find_spec("ffcv") is None:
        print("ffcv is not installed (it needs OpenCV's and TurboJPEG's headers): left out")
        return {}
    return {"ffcv, JPEG": partial(side, "jpeg.beton"), "ffcv, raw": partial(side, "raw256.beton")}


def write_ffcv(jpegs: Path, folder: Path, workers: int) -> None:
    """Both of its files, unless they are there."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    folder.mkdir(exist_ok=True)
    forms = {
        "jpeg": RGBImageField(write_mode="jpg", max_resolution=500, jpeg_quality=90),
        "raw256": RGBImageField(write_mode="raw", max_resolution=256),
    }
    for name, form in forms.items():
        done, part = folder / f"{name}.beton", folder / f"{name}.part"
        if not done.is_file():
            writer = DatasetWriter(str(part), {"image": form, "label": IntField()}, num_workers=workers)
            writer.from_indexed_dataset(_Pictures(sorted(jpegs.glob("*.jpg"))))
            shutil.move(part, done)


class _Pictures:
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(self.paths[index]).convert("RGB"), index


def drained(batches: Iterable[Tensor]) -> int:
    """Goes through an epoch, normalising what arrives as uint8; the number of pictures."""
    count = 0
    normalise, out_BCHW = Normalise(CLIP_MEAN, CLIP_STD), torch.empty(BATCH, 3, SIZE, SIZE)
    for pixels in batches:
        if pixels.dtype == torch.uint8:
            pixels = normalise(pixels.permute(0, 3, 1, 2), out_BCHW)
        count += len(pixels)
    return count
