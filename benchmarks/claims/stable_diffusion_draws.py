"""Stable Diffusion's pictures show the object and the colour that a prompt names, and its errors tell shapes apart.

Rombach et al. 2021 (arXiv 2112.10752): a U-Net, told a text, takes noise out of the latents of a picture, guided by the
difference to no text. Li et al. 2023 (arXiv 2303.16203): of several texts the one under which the noise of a picture
is told best is true of it; the same weights, without any further training.
"""

from __future__ import annotations

from _claim import BLIND_ERRORS, FEW, LEVEL, Arm, Claim, Comparison, Evaluation, scenes
from _drawing import DRAWING_THRESHOLD, WORLD, beats_chance, drawn, quiet, raises

from diptych.recipes.stable_diffusion_tiny import stable_diffusion_tiny

SHAPES = Evaluation(
    "shapes", scenes(WORLD), "zero_shot_classification", ("top1", "top1:chance"), 300,
    {"templates": "one object: one {}"},
)  # fmt: skip
"""Which of six shapes is it? The sentence is the one caption of a scene that names the shape alone."""

CLAIM = Claim(
    sentence=(
        "Stable Diffusion's pictures show the object and the colour that a prompt names, and the same weights tell the "
        "shape of an object in a picture."
    ),
    arms=(
        Arm(
            "stable_diffusion", lambda: quiet(stable_diffusion_tiny()),
            (drawn("own"), drawn("unguided", {"guidance": 1.0}), SHAPES),
        ),
    ),
    comparisons=(
        beats_chance("stable_diffusion"),
        Comparison(
            "shapes by the diffusion classifier", "stable_diffusion", "stable_diffusion", ("shapes/top1",),
            against=("shapes/top1:chance",), errors=BLIND_ERRORS,
        ),
        raises("guidance", "stable_diffusion", "own", "unguided"),
    ),
    threshold=(
        f"{DRAWING_THRESHOLD}; of the shapes: the mean gain over chance is above zero by at least {BLIND_ERRORS:g} "
        f"standard errors, with p < {LEVEL:g} in the same test"
    ),
    seeds=FEW,
)  # fmt: skip
