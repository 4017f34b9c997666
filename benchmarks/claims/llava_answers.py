"""LLaVA answers questions about held-out pictures from what it sees.

Liu et al. 2023 (arXiv 2304.08485, 2310.03744): the features of a vision tower that others trained stand among the words
of a language model that others trained, through an MLP; both are trained here first, on other scenes. Held-out scenes
show combinations of size, colour, shape and place that training never did.
"""

from __future__ import annotations

from dataclasses import replace

from _asked import answered, sees, small
from _claim import BLIND_THRESHOLD, FEW, Arm, Claim

from diptych.recipes.llava_tiny import LlavaRun, llava_tiny
from diptych.training.run import Budget


def _run() -> LlavaRun:
    """The tower's states before its last block, as in the paper: nothing trains the last block's patches."""
    run = small(llava_tiny())
    return replace(
        run,
        model=replace(run.model, layer=-2),
        contrast=replace(run.contrast, steps=400),
        words=replace(run.words, steps=400, batch_size=32),
        captions=replace(run.captions, steps=100),
        budget=Budget(steps=700),
    )


CLAIM = Claim(
    sentence="LLaVA answers questions about held-out pictures from what it sees.",
    arms=(Arm("llava", _run, answered()),),
    comparisons=sees("llava"),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
