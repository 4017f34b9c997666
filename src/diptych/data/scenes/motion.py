"""A scene in motion: one object walks across the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diptych.data.scenes.world import Scene, combination

DIRECTIONS = {"to the left": (0, -1), "to the right": (0, 1), "up": (-1, 0), "down": (1, 0)}
FRAMES = 6


def combination_of(scene: Scene, direction: str) -> str:
    """What splits hold out of clips: as of pictures, but of a lone object, which crosses cells, its path."""
    if len(scene.objects) > 1:
        return combination(scene)
    (one,) = scene.objects
    path = f"column {one.column}" if DIRECTIONS[direction][1] == 0 else f"row {one.row}"
    return f"{one.full_name} moves {direction} in {path}"


def moving(scene: Scene, rng: np.random.Generator) -> tuple[str, list[Scene]]:
    """A direction and the frames of the first object's walk in it; the others stay.

    Frames are drawn by pixel positions; an object's cell is that of its start.
    """
    direction = tuple(DIRECTIONS)[int(rng.integers(len(DIRECTIONS)))]
    dy, dx = DIRECTIONS[direction]
    mover = scene.objects[0]
    span = scene.side - 2 * mover.radius - 2
    start_y = mover.y if dy == 0 else (mover.radius + 1 if dy > 0 else scene.side - mover.radius - 2)
    start_x = mover.x if dx == 0 else (mover.radius + 1 if dx > 0 else scene.side - mover.radius - 2)
    frames = []
    for frame in range(FRAMES):
        way = round(span * frame / (FRAMES - 1))
        moved = replace(mover, y=start_y + dy * way, x=start_x + dx * way)
        frames.append(replace(scene, objects=(*scene.objects[1:], moved)))
    # The mover is painted last, over the others, but stays the first object by name.
    return direction, [replace(f, objects=(f.objects[-1], *f.objects[:-1])) for f in frames]
