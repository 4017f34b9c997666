"""An object detector of a `transformers` folder, as a source of regions.

Any model that `AutoModelForObjectDetection` reads and that answers with `logits` and `pred_boxes` (DETR, YOLOS and
their kin). It looks at one picture at a time, in evaluation mode and without gradients.

N queries, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diptych.core.errors import CheckpointError, DataError, MissingExtra
from diptych.core.visual import Pixels
from diptych.data.pixels.geometry import shorter_side_size
from diptych.data.pixels.regions import Boxes
from diptych.data.pixels.resize import resized, whole
from diptych.data.pixels.tower_inputs import preprocessing_file, read_normalisation

_LEAST_SIDE = 1e-3
"""Boxes thinner than this share of the picture hold nothing to pool."""


class FolderDetector:
    """Regions by the best class score of each query.

    Args:
        folder: with weights, `config.json` and the preprocessing.

    Raises:
        CheckpointError: the folder holds no detector.
        DataError: it does not say how pictures are prepared.
        MissingExtra: transformers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model: Any = _read(folder)
        path, plain = preprocessing_file(folder)
        self._size = _size(plain, path)
        self._scale, self._mean, self._std = read_normalisation(plain, path)

    @torch.inference_mode()
    def boxes(self, pixels_HWC: Pixels, most: int) -> Boxes:
        """At most so many normalised regions [R, 4], the surest first."""
        found = self.model(pixel_values=self._prepared(pixels_HWC))
        if getattr(found, "pred_boxes", None) is None:
            raise CheckpointError(f"{self.folder} answers with no pred_boxes: it is of no kind that is read here")
        scores_N = self._scores(found.logits[0])
        corners_N4 = _corners(found.pred_boxes[0]).clamp(0, 1)
        sides_N2 = corners_N4[:, 2:] - corners_N4[:, :2]
        order_N = scores_N.argsort(descending=True, stable=True)
        order_N = order_N[(sides_N2[order_N] > _LEAST_SIDE).all(-1)]
        boxes: Boxes = corners_N4[order_N[:most]].numpy().astype(np.float32)
        return boxes

    def _scores(self, logits_NK: Tensor) -> Tensor:
        """How sure the best class of each query is.

        Detectors with one class more than they name have "no object" as their last and choose among all; others say of
        each class on its own whether it is there.
        """
        if logits_NK.shape[-1] > int(self.model.config.num_labels):
            return logits_NK.softmax(-1)[:, :-1].amax(-1)
        return logits_NK.sigmoid().amax(-1)

    def _prepared(self, pixels_HWC: Pixels) -> Tensor:
        """[1, 3, H, W]."""
        height, width = self._sides(*pixels_HWC.shape[:2])
        small_HWC = resized(pixels_HWC, whole(pixels_HWC), height, width, "bilinear")
        pixels_CHW = torch.from_numpy(small_HWC).permute(2, 0, 1).float() * self._scale
        mean, std = (torch.tensor(values)[:, None, None] for values in (self._mean, self._std))
        return ((pixels_CHW - mean) / std)[None]

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        if "shortest_edge" not in self._size:
            return self._size["height"], self._size["width"]
        new_width, new_height = shorter_side_size(width, height, self._size["shortest_edge"])
        longest = self._size.get("longest_edge", max(new_width, new_height))
        shrink = min(1.0, longest / max(new_width, new_height))
        return max(round(new_height * shrink), 1), max(round(new_width * shrink), 1)

    def write(self, folder: Path) -> None:
        """Writes all that `FolderDetector` reads."""
        self.model.save_pretrained(folder)
        path, _ = preprocessing_file(self.folder)
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")


def _corners(boxes_N4: Tensor) -> Tensor:
    """Centre, width and height as corners."""
    centre_N2, half_N2 = boxes_N4[:, :2], boxes_N4[:, 2:] / 2
    return torch.cat([centre_N2 - half_N2, centre_N2 + half_N2], dim=-1)


def _size(plain: dict[str, Any], path: Path) -> dict[str, int]:
    size = plain.get("size", {})
    if isinstance(size, dict) and ("shortest_edge" in size or {"height", "width"} <= size.keys()):
        return {name: int(value) for name, value in size.items() if value is not None}
    raise DataError(f"{path}: a detector's size is a shortest_edge, or a height and a width; got {size}")


def _read(folder: Path) -> nn.Module:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "transformers", f"the detector {folder}") from error
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"no detector at {folder}: it has no config.json")
    try:
        model: nn.Module = transformers.AutoModelForObjectDetection.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        reason = f"{error}".partition("\n")[0]
        raise CheckpointError(f"{folder} cannot be read as a detector of objects: {reason}") from error
    return model.eval()
