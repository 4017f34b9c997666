"""What recipes on pretrained towers share: reading the folders, caching features, measuring on cached rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.batches.features import TowerTexts, captions_of
from diptych.data.cached.feature_cache import Extraction, cached_features
from diptych.data.cached.feature_rows import FeatureRows
from diptych.data.pixels.images import image_of
from diptych.data.pixels.tower_inputs import TowerImages, read_tower_images
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import read_backbone
from diptych.layers.frozen_pass import FrozenPass, Precision, exact
from diptych.layers.pretrained import ImageTower, TextTower
from diptych.layers.weight_hash import weight_hash
from diptych.models.contrastive import locked_clip
from diptych.recipes._picture_rows import Pass, architecture_of, picture_rows

Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Towers:
    """Two pretrained towers with what prepares their inputs."""

    image: ImageTower
    text: TextTower
    images: TowerImages
    texts: TowerTexts

    @classmethod
    def read(
        cls, config: locked_clip.Config, image_folder: str, text_folder: str, max_length: int, image_size: int = 0
    ) -> Towers:
        """The towers of two `transformers` folders.

        Args:
            image_size: squash pictures to this side instead of what the folder says; 0 to do as it says.

        Raises:
            ConfigError: a folder is not named, or its tower has too few positions for the longest caption.
            CheckpointError: a folder holds no such model.
        """
        images = read_tower_images(_named(image_folder, "image_tower"))
        if image_size:
            images = replace(images, height=image_size, width=image_size, shorter_side=None)
        texts = TowerTexts(Tokenizer.from_folder(_named(text_folder, "text_tower")), max_length)
        image = locked_clip.image_tower_of(config, images, read_backbone(Path(image_folder), "vision"))
        text = locked_clip.text_tower_of(config, read_backbone(Path(text_folder), "text"))
        positions = getattr(text.config, "max_position_embeddings", max_length)
        if max_length > positions:
            raise ConfigError(
                f"texts of up to {max_length} tokens do not fit the {positions} positions of {text_folder}: "
                f"say --max_length {positions}"
            )
        return cls(image, text, images, texts)

    @torch.no_grad()
    def image_width(self) -> int:
        """F of the image tower, by asking it.

        Raises:
            ConfigError: it is made for pictures of another size.
        """
        height, width = self.images.height, self.images.width
        try:
            return int(self.image(torch.zeros(1, 3, height, width, dtype=torch.uint8)).shape[1])
        except ValueError as error:  # what the library's towers raise
            raise ConfigError(
                f"the image tower does not take pictures of {height} x {width}: --image_size 0 gives it the size that "
                f"its folder names ({error})"
            ) from error

    def text_width(self) -> int:
        """F of the text tower."""
        return int(self.text.config.hidden_size)


def _named(folder: str, option: str) -> Path:
    if not folder:
        raise ConfigError(f"name a transformers folder with --{option} PATH")
    if not Path(folder).is_dir():
        raise ConfigError(f"--{option}: no folder at {folder}")
    return Path(folder)


def image_features(
    root: Path, source: Source, towers: Towers, device: torch.device, precision: Precision, batch: int, threads: int,
    *, mirrored: bool,
) -> FeatureRows:  # fmt: skip
    """A row a picture, or two with the mirrored one: the whole of its augmentation."""
    sides = (towers.images, replace(towers.images, mirror=True)) if mirrored else (towers.images,)

    def prepare(sample: Sample) -> NDArray[np.uint8]:
        image = image_of(sample)
        pixels_VHWC = np.empty((len(sides), sides[0].height, sides[0].width, 3), np.uint8)
        for view_HWC, side in zip(pixels_VHWC, sides, strict=True):
            side.fill(view_HWC, image, sample.key)
        return pixels_VHWC

    how = Pass(device, precision, batch, threads)
    return picture_rows(root, source, towers.image, prepare, {"images": sides, "readout": towers.image.readout}, how)


def text_features(
    root: Path, source: Source, towers: Towers, device: torch.device, precision: Precision, batch: int, threads: int
) -> FeatureRows:
    """A row a caption."""
    precision = exact(precision, device)
    run = FrozenPass(towers.text.to(device), batch, precision, compiled=False)

    def encode(items: Sequence[list[str]]) -> Sequence[Rows]:
        flat = [text for captions in items for text in captions]
        rows_NF: Rows = np.empty((len(flat), towers.text_width()), np.float32)
        for chosen, tokens_BT, lengths_B in towers.texts.in_order_of_length(flat, batch):
            rows_NF[chosen] = run(tokens_BT.to(device), lengths_B.to(device)).cpu().numpy()
        ends = np.cumsum([len(captions) for captions in items])
        return np.split(rows_NF, ends[:-1])

    preprocessing = {
        "tokenizer": towers.texts.tokenizer.backend.to_str(),
        "max_length": towers.texts.max_length,
        "readout": towers.text.readout,
        "precision": precision,
        "architecture": architecture_of(towers.text),
    }
    extraction = Extraction(weight_hash(towers.text), preprocessing, captions_of, encode)
    return cached_features(root, source, extraction, threads=threads)


def all_rows(rows: FeatureRows) -> Tensor:
    """Every row of a cache [R, F]."""
    return torch.from_numpy(np.concatenate(list(rows.values())).astype(np.float32))
