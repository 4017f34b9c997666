"""A test part for data that have none: some of the pictures, whatever samples they are in.

What is held out is chosen picture by picture, by a hash of its bytes: copies of one picture, and all captions and
conversations of one picture, are on the same side. The same picture in another encoding counts as another one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.core.visual import Clip, Image

SHARE, MOST = 0.2, 2000
"""Of the different pictures, and of them at most."""


@dataclass(frozen=True)
class HeldOut:
    """Which samples are held out.

    Attributes:
        pictures, of: how many different pictures are, and how many there are.
        unread: samples that could not be read; they stay where training counts them.
    """

    keys: tuple[str, ...]
    pictures: int
    of: int
    unread: int


def choose_held_out(source: Source, share: float = SHARE, most: int = MOST) -> HeldOut:
    """Reads every sample once.

    Raises:
        DataError: fewer than two different pictures.
    """
    keys_of: dict[str, list[str]] = defaultdict(list)
    unread = 0
    for index, key in enumerate(source.keys()):
        try:
            keys_of[_picture(source[index], key)].append(key)
        except BadSample:
            unread += 1
    if len(keys_of) < 2:
        raise DataError(
            f"{source.name} has {len(keys_of)} different pictures that can be read ({unread} samples cannot): at least "
            f"one to train on and one to evaluate on are needed"
        )
    count = min(max(round(share * len(keys_of)), 1), most)
    chosen = set(sorted(keys_of, key=lambda picture: hash_to_int("held out", picture))[:count])
    held = tuple(key for picture, keys in keys_of.items() if picture in chosen for key in keys)
    return HeldOut(held, count, len(keys_of), unread)


def _picture(sample: Sample, key: str) -> str:
    """A hash of the sample's first picture; of its key where it has none."""
    visual = sample.visuals[0] if sample.visuals else None
    image = visual.frames[0] if isinstance(visual, Clip) else visual
    return sha256(_bytes(image) if image is not None else key.encode()).hexdigest()


def _bytes(image: Image) -> bytes:
    if image.encoded is not None:
        return bytes(image.encoded)
    assert image.pixels_HWC is not None
    return str(image.pixels_HWC.shape).encode() + image.pixels_HWC.tobytes()
