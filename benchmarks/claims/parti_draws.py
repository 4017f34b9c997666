"""Parti's pictures show the object and the colour that a prompt names.

Yu et al. 2022 (arXiv 2206.10789): an encoder reads the prompt, a decoder writes a picture's codes, guided by the
difference to no prompt; of several pictures a contrastive model keeps the best.
"""

from __future__ import annotations

from _claim import FEW, Arm, Claim
from _drawing import DRAWING_THRESHOLD, beats_chance, drawn, quiet, raises

from diptych.recipes.parti_tiny import parti_tiny

LOOKS = (
    drawn("own"),
    drawn("unguided", {"guidance": 1.0}),
    drawn("best_of_8", {"candidates": 8}),
)

CLAIM = Claim(
    sentence="Parti's pictures show the object and the colour that a prompt names.",
    arms=(Arm("parti", lambda: quiet(parti_tiny()), LOOKS),),
    comparisons=(
        beats_chance("parti"),
        raises("guidance", "parti", "own", "unguided"),
        raises("the best of eight", "parti", "best_of_8", "own"),
    ),
    threshold=DRAWING_THRESHOLD,
    seeds=FEW,
)
