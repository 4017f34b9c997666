"""Strong views in SLIP and CLIP-rocket: the image tower on them, before any head, and the CLIP inside both models.

B batch, V strong views, K kept patches, C channels, H height, W width, D width.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from diptych.data.batches.augmented_pairs import AugmentedBatch
from diptych.models.contrastive import clip
from diptych.models.contrastive._two_towers import TwoTowerTask


def strong_vectors(task: TwoTowerTask, batch: AugmentedBatch) -> Tensor:
    """The image tower's vectors [B, V, D]; where patches are masked, each view has a draw of its own."""
    towers, views = task.model, batch.strong_BVCHW.shape[1]
    kept = [task.kept_patches(batch, f"patches of strong view {view}") for view in range(views)]
    kept_RK = torch.stack([one for one in kept if one is not None], 1).flatten(0, 1) if None not in kept else None
    vectors_RD = towers.vision(towers.normalise(batch.strong_BVCHW.flatten(0, 1)), kept_RK)
    out: Tensor = vectors_RD.unflatten(0, (-1, views))
    return out


def clip_part(config: clip.Config) -> clip.Config:
    """The sizes of the CLIP that a configuration derived from its own adds to."""
    return clip.Config(**{field.name: getattr(config, field.name) for field in fields(clip.Config)})
