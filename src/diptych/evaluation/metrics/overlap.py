"""How far two boxes agree."""

from __future__ import annotations

from diptych.core.visual import Box


def area(box: Box) -> float:
    """Width times height; 0 where the corners are not in order."""
    return max(box.x1 - box.x0, 0.0) * max(box.y1 - box.y0, 0.0)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union, 0 to 1; 0 where neither has an area."""
    common = area(
        Box(max(first.x0, second.x0), max(first.y0, second.y0), min(first.x1, second.x1), min(first.y1, second.y1))
    )
    union = area(first) + area(second) - common
    return common / union if union else 0.0
