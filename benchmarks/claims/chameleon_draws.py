"""Chameleon's pictures show the object and the colour that a prompt names.

Chameleon Team 2024 (arXiv 2405.09818): one transformer reads and writes words and pictures as tokens of one vocabulary,
its queries and keys normalised. Half of the pairs are trained with the picture before its text, and would do for
captions.
"""

from __future__ import annotations

from _claim import FEW, Arm, Claim
from _drawing import DRAWING_THRESHOLD, beats_chance, drawn, quiet, raises

from diptych.recipes.chameleon_tiny import chameleon_tiny

LOOKS = (drawn("own"), drawn("unguided", {"guidance": 1.0}))

CLAIM = Claim(
    sentence="Chameleon's pictures show the object and the colour that a prompt names.",
    arms=(Arm("chameleon", lambda: quiet(chameleon_tiny()), LOOKS),),
    comparisons=(beats_chance("chameleon"), raises("guidance", "chameleon", "own", "unguided")),
    threshold=DRAWING_THRESHOLD,
    seeds=FEW,
)
