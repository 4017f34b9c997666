"""open_clip, for tests that compare with it; they are skipped where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch


def _open_clip() -> Any:
    """It imports torchvision, whose published build asks a CPU torch for operators that it does not have."""
    if find_spec("open_clip") and find_spec("torchvision"):
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    return pytest.importorskip("open_clip", reason="open_clip is not installed: pip install open_clip_torch")


open_clip = _open_clip()
