"""A corpus for measuring loaders: JPEGs with the statistics of photographs, so that decoding costs what it costs there.

Pictures have the 1/f spectrum of natural images (Field 1987), some edges, and the sensor's noise; at quality 90 a
500 x 375 one takes about 50 kB, as photographs of that size do. Made from a seed: the same on every machine.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from diptych.core.seeding import Draw

WIDTH, HEIGHT, PER_TAR = 500, 375, 500
_WORDS = (
    "a the dog cat man woman sits stands on in near red blue big small table street with and holding field grass "
    "water boat train plate food cup running jumping looking"
)


def write_corpus(folder: Path, count: int) -> tuple[Path, Path]:
    """Writes the same pictures as a folder of JPEGs and as tars with captions, unless they are there.

    Returns:
        the folder of JPEGs and the folder of tars.
    """
    jpegs, tars = folder / "jpeg", folder / "tars"
    if (folder / f"complete-{count}").is_file():
        return jpegs, tars
    jpegs.mkdir(parents=True, exist_ok=True)
    tars.mkdir(exist_ok=True)
    for begin in track(range(0, count, PER_TAR), description="making the corpus"):
        with tarfile.open(tars / f"{begin // PER_TAR:04d}.tar", "w") as tar:
            for index in range(begin, min(begin + PER_TAR, count)):
                encoded = photograph(index)
                (jpegs / f"{index:05d}.jpg").write_bytes(encoded)
                _add(tar, f"{index:05d}.jpg", encoded)
                _add(tar, f"{index:05d}.txt", caption(index).encode())
    (folder / f"complete-{count}").touch()
    return jpegs, tars


def caption(index: int) -> str:
    """8 to 20 words."""
    rng = Draw(0, 0, str(index)).rng("caption")
    return " ".join(rng.choice(_WORDS.split(), rng.integers(8, 21)))


def photograph(index: int) -> bytes:
    """A JPEG of quality 90."""
    rng = Draw(0, 0, str(index)).rng("picture")
    brightness_HW = _natural(rng)
    edges_HW = np.sign(_natural(rng, power=2.2)) * 0.5
    colour_HW2 = np.stack([_natural(rng, power=1.8) for _ in range(2)], -1) * 0.35
    luma_HW1 = (brightness_HW + edges_HW)[..., None] + rng.normal(0, 0.025, (HEIGHT, WIDTH, 1))
    red_blue = luma_HW1 + colour_HW2
    rgb_HWC = np.concatenate([red_blue[..., :1], luma_HW1 - colour_HW2.mean(-1, keepdims=True), red_blue[..., 1:]], -1)
    pixels_HWC = np.clip(128 + rgb_HWC * rng.uniform(35, 55), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels_HWC).save(out, "JPEG", quality=90)
    return out.getvalue()


def _natural(rng: np.random.Generator, power: float = 1.6) -> np.ndarray:
    """Noise whose amplitude falls with frequency as 1/f^power, of unit variance [H, W]."""
    fy, fx = np.fft.fftfreq(HEIGHT)[:, None] * HEIGHT, np.fft.rfftfreq(WIDTH)[None] * WIDTH
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1) ** power
    spectrum = amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape))
    spectrum[0, 0] = 0
    field_HW = np.fft.irfft2(spectrum, s=(HEIGHT, WIDTH))
    return field_HW / field_HW.std()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
