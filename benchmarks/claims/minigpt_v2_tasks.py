"""MiniGPT-v2 answers from what it sees, and its identifier decides the kind of what it says.

Chen et al. 2023 (arXiv 2310.09478): one model for many tasks, each told by an identifier before what is asked; boxes
are text. Trained are a linear map of four features side by side and LoRA in a language model that others trained; tower
and language model are trained here first, on other scenes. Held-out scenes show combinations of size, colour, shape and
place that training never did. Whether its boxes are where the object is stands beside the claim as context.
"""

from __future__ import annotations

from dataclasses import replace

from _asked import LIMIT, WORLD, answered, over, sees, small
from _claim import BLIND_THRESHOLD, FEW, Arm, Claim, Evaluation, scenes

from diptych.recipes.minigpt_v2_tiny import MiniGptV2Run, minigpt_v2_tiny
from diptych.training.optimizer import AdamWConfig
from diptych.training.run import Budget

KINDS = Evaluation(
    "kinds", scenes(WORLD), "_measures.identifiers",
    ("own", "other", "own_caption", "own_grounding", "own_refer", "own_identify"), 50,
)  # fmt: skip
BOXES = Evaluation(
    "boxes", scenes(WORLD), "grounding", ("accuracy", "accuracy_swapped", "accuracy_mean_box", "unlocated"), LIMIT
)


def _run() -> MiniGptV2Run:
    run = small(minigpt_v2_tiny())
    return replace(
        run,
        words=replace(run.words, steps=250),
        captions=replace(run.captions, steps=50, lr=1e-3),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.0),
        budget=Budget(steps=450),
    )


CLAIM = Claim(
    sentence="MiniGPT-v2 answers from what it sees, and its identifier decides the kind of what it says.",
    arms=(Arm("minigpt_v2", _run, (*answered("[vqa] {}"), KINDS, BOXES)),),
    comparisons=(
        *sees("minigpt_v2"),
        *over("kinds of output, another identifier", "minigpt_v2", ("kinds/own",), "kinds/other"),
        *over("boxes, swapped", "minigpt_v2", ("boxes/accuracy",), "boxes/accuracy_swapped", primary=False),
    ),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
