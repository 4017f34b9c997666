"""The small study of all five families: what `make demo` runs with one seed, and what is committed of five."""

from __future__ import annotations

from diptych.study.config import StudyBudget, StudyConfig

DATA = "scenes?size=32&objects=1&zoom=2&words=0&patterns=0&noise=0&count=10000"
"""One large object a picture: in minutes of training nothing is learned of two, and a page of chance shows nothing."""
SAMPLES = 19_200
_SIZE = 32
_OWN = {
    "llava_tiny": (f"towers.vision.image_size={_SIZE}", "contrast.steps=200", "words.steps=200", "captions.steps=100"),
    "maskvlm_tiny": (f"model.vision.image_size={_SIZE}", "alignment.samples=12800"),
    "visualbert_tiny": ("batch_size=16", "model.features.halvings=2"),
    "clip_tiny": (f"model.vision.image_size={_SIZE}",),
    "coca_tiny": (f"model.vision.image_size={_SIZE}",),
}
"""The longest first, so that two cores end together. What comes before the shared budget is as short as that.
VisualBERT contrasts nothing within a batch, so its steps are more and smaller; its maps suit pictures so small."""


def small_study(seeds: int = 1, samples: int = SAMPLES, limit: int = 100) -> StudyConfig:
    """Five families on the same samples, in minutes.

    Args:
        samples: that each recipe is trained on.
        limit: the most samples of an evaluation.
    """
    options = tuple(f"{recipe}.{option}" for recipe, own in _OWN.items() for option in (f"image.size={_SIZE}", *own))
    return StudyConfig(tuple(_OWN), DATA, StudyBudget(samples=samples), seeds, limit, options)
