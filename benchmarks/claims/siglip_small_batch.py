"""SigLIP beats CLIP where batches are small.

Zhai et al. 2023 (arXiv 2303.15343) report that the sigmoid loss, which normalises over no batch, gains most over the
softmax at small batches. Here: batches of 8 and 16, each arm seeing equally many samples; 64 for context.

The learning rate of each arm and batch was chosen on "val", with a seed that is not one of the five.
"""

from __future__ import annotations

from _claim import Arm, Claim, Comparison, Evaluation, scenes
from _settings import WORLD, small

from diptych.recipes.clip_tiny import ClipRun, clip_tiny
from diptych.recipes.siglip_tiny import SiglipRun, siglip_tiny

SAMPLES = 9_600
RATES = {
    "clip": {8: 5e-4, 16: 1e-3, 64: 1e-3},
    "siglip": {8: 5e-4, 16: 1e-3, 64: 1e-3},
}
TEST = (Evaluation("test", scenes(WORLD)),)
METRICS = ("test/text_to_image_r10", "test/image_to_text_r10")


def _arm(name: str, batch: int) -> Arm:
    def run() -> ClipRun | SiglipRun:
        recipe = clip_tiny() if name == "clip" else siglip_tiny()
        return small(recipe, samples=SAMPLES, batch=batch, lr=RATES[name][batch])

    return Arm(f"{name}_{batch}", run, TEST)


CLAIM = Claim(
    sentence="SigLIP beats CLIP at batches of 8 and 16, at equal samples seen.",
    arms=tuple(_arm(name, batch) for batch in (8, 16, 64) for name in ("clip", "siglip")),
    comparisons=tuple(
        Comparison(f"batch {batch}", f"siglip_{batch}", f"clip_{batch}", METRICS, primary=batch <= 16)
        for batch in (8, 16, 64)
    ),
)
