"""Whether a caption is true of a scene: its pairs of colour and shape against the scene's objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diptych.data.scenes.world import COLOURS, SHAPES

_PAIR = re.compile(rf"\b({'|'.join(COLOURS)})\s+({'|'.join(SHAPES)})(?:s|es)?\b", re.IGNORECASE)

PRECISION, RECALL, NAMING = "pair_precision", "pair_recall", "captions_with_a_pair"


def named_pairs(caption: str) -> set[str]:
    """Every colour that stands before a shape, with it: "two Red circles" names "red circle"."""
    return {f"{colour} {shape}".lower() for colour, shape in _PAIR.findall(caption)}


def is_scene(meta: Mapping[str, Any]) -> bool:
    """Whether a sample says which coloured shapes it shows."""
    return all({"colour", "shape"} <= one.keys() for one in meta["objects"]) if meta.get("objects") else False


def truth_of(caption: str, meta: Mapping[str, Any]) -> dict[str, float]:
    """Precision and recall of the pairs that a caption names, of one scene.

    Precision is the share of the named pairs that are in the scene: 0 where none is named, for who says nothing is not
    precise. Recall is the share of the scene's pairs that are named.
    """
    named = named_pairs(caption)
    there = {f"{one['colour']} {one['shape']}" for one in meta["objects"]}
    both = len(named & there)
    return {
        PRECISION: both / len(named) if named else 0.0,
        RECALL: both / len(there),
        NAMING: float(bool(named)),
    }
