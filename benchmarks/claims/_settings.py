"""What the arms of the claims share, so that they differ in what is claimed alone: scenes, sizes, schedule."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from diptych.recipes._pairs import PairsRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget

SIDE = 48
WORLD = f"size={SIDE}&min_objects=2&words=0"
"""Two or three objects on 48 pixels: 36 patches, and captions of five degrees of detail."""
TRAINED_ON = f"{WORLD}&count=10000"

R = TypeVar("R", bound=PairsRun)


def small(run: R, *, samples: int, batch: int = 64, lr: float = 1e-3, data: str = TRAINED_ON) -> R:
    """A tiny recipe on these scenes, for a minute of one thread; a tenth of the steps warms up."""
    steps = round(samples / batch)
    return replace(
        run,
        data=f"scenes?{data}",
        image=replace(run.image, size=SIDE),
        model=replace(run.model, vision=replace(run.model.vision, image_size=SIDE)),  # type: ignore[attr-defined]
        batch_size=batch,
        budget=Budget(steps=steps),
        optimizer=AdamWConfig(lr=lr, weight_decay=0.1),
        schedule=WarmupCosine(warmup=round(0.1 * steps)),
        evaluate_every=0,
        save_every=0,
    )
