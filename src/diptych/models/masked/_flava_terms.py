"""FLAVA's six terms: their weights, what each of them needs, and which weights it reaches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import NamedTuple

from torch import nn

from diptych.core.errors import ConfigError
from diptych.data.batches.mixed_pairs import Kind, MixedBatch

FUSED = ("mmm_image", "mmm_text", "itm")
"""Terms of the multimodal encoder."""


@dataclass(frozen=True)
class Weights:
    """The weight of each term; 0 leaves it out, and all that is computed for it alone.

    Attributes:
        mim: codes of hidden patches, of pictures alone.
        mlm: hidden words, of texts alone.
        contrastive: whose caption is whose, among the pairs of the global batch, from what is not masked.
        mmm_image, mmm_text: codes and words hidden in pairs that match, from both sides.
        itm: whether the two sides of a masked pair belong together.
    """

    mim: float = 1.0
    mlm: float = 1.0
    contrastive: float = 1.0
    mmm_image: float = 1.0
    mmm_text: float = 1.0
    itm: float = 1.0

    def __post_init__(self) -> None:
        if min(self.all().values()) < 0 or not self.used():
            raise ConfigError(f"weights {self.all()}: give 0 or more, and something to train on")

    def all(self) -> dict[str, float]:
        """Every weight by its term's name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def used(self) -> frozenset[str]:
        """The terms whose weight is not 0."""
        return frozenset(name for name, weight in self.all().items() if weight)

    @property
    def fuses(self) -> bool:
        """Whether any term needs the multimodal encoder."""
        return bool(self.used() & set(FUSED))


class _Need(NamedTuple):
    kinds: tuple[Kind, ...]
    said: str


_NEEDS = {
    "mim": _Need((Kind.PICTURE,), "pictures alone"),
    "mlm": _Need((Kind.TEXT,), "texts alone"),
    "contrastive": _Need((Kind.MATCHED,), "pairs"),
    "mmm_image": _Need((Kind.MATCHED,), "pairs"),
    "mmm_text": _Need((Kind.MATCHED,), "pairs"),
    "itm": _Need((Kind.MATCHED, Kind.MISMATCHED), "pairs, and some whose caption is another picture's"),
}
_READERS = {
    "image": ("mim", "contrastive", *FUSED),
    "image.mask_D": ("mim", *FUSED),
    "image.norm_post": ("mim", "contrastive"),
    "image.patches.backbone": (),
    "text": ("mlm", "contrastive", *FUSED),
    "text.norm_post": ("mlm", "contrastive"),
    "fusion": FUSED,
    "image_head": ("contrastive",),
    "text_head": ("contrastive",),
    "log_scale": ("contrastive",),
    "mim": ("mim",),
    "mlm": ("mlm",),
    "mmm_image": ("mmm_image",),
    "mmm_text": ("mmm_text",),
    "itm": ("itm",),
}
"""Which terms train what; a longer name stands before the shorter one that it begins with."""


def check_kinds(weights: Weights, kinds: Collection[Kind]) -> None:
    """Raises a ConfigError when the data can never give a term that has a weight.

    Args:
        kinds: of the rows that the data give (`data.batches.row_kinds.kinds_in`).
    """
    for term in sorted(weights.used()):
        if not set(_NEEDS[term].kinds) <= set(kinds):
            given = ", ".join(sorted(kind.name.lower() for kind in kinds)) or "nothing"
            raise ConfigError(
                f"the term {term} needs {_NEEDS[term].said}, and these data give {given} rows only: give data "
                f"that have them, take a share of the pairs as such (masks.alone, masks.mismatched), or set "
                f"weights.{term} to 0"
            )


def freeze_unused(model: nn.Module, weights: Weights) -> None:
    """Leaves out of training what no term with a weight reaches: DDP would wait for its gradient for ever."""
    for name, parameter in model.named_parameters():
        owner = max((known for known in _READERS if f"{name}.".startswith(f"{known}.")), key=len, default=None)
        if owner is not None:
            parameter.requires_grad_(bool(weights.used() & set(_READERS[owner])))


def counts_of(batch: MixedBatch, weights: Weights) -> dict[str, float]:
    """The count of each term of scope mean, from the batch alone: patches, words and pairs that are asked about."""
    matched, pictures, texts = (batch.places(kind) for kind in (Kind.MATCHED, Kind.PICTURE, Kind.TEXT))
    every = {
        "mim": sum(batch.asked[row][0] for row in pictures),
        "mlm": sum(batch.asked[row][1] for row in texts),
        "mmm_image": sum(batch.asked[row][0] for row in matched),
        "mmm_text": sum(batch.asked[row][1] for row in matched),
        "itm": len(batch.places(Kind.MATCHED, Kind.MISMATCHED)),
    }
    return {name: float(count) for name, count in every.items() if name in weights.used()}
