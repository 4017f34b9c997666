"""MaskVLM paints hidden parts of a picture from its caption.

Kwon et al. 2022 (arXiv 2208.02131): hidden patches are reconstructed from the visible ones and from all of the text.
The control is the same training in which the reconstruction is told an empty text (`text_free`). Captions say what lies
where: "a large purple circle in the middle left on a black background". Only this loss is trained, so that both arms
spend all of their steps on it. Held-out scenes show combinations of size, colour, shape and place that training never
did.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from _claim import BLIND_ERRORS, BLIND_THRESHOLD, FEW, Arm, Claim, Comparison, Evaluation, scenes
from _seen import WORLD, short_run
from _sources import OneCaption, as_run, first_caption

from diptych.core.source import Source
from diptych.models.masked import maskvlm
from diptych.recipes._alignment import Alignment
from diptych.recipes.maskvlm_tiny import MaskVlmRun, maskvlm_tiny

SAMPLES = 32_000
METRICS = ("variance_explained", "variance_explained_other_caption", "own_caption_closer_expected")


def held_out() -> Source:
    """Scenes with their most detailed caption."""
    return first_caption(scenes(WORLD)())


LOOKS = (Evaluation("patches", held_out, "masked_patches", METRICS, 1000),)


@dataclass(frozen=True, kw_only=True)
class Detailed(OneCaption, MaskVlmRun):
    """On the most detailed captions."""


def _run(text_free: bool) -> MaskVlmRun:
    run = short_run(maskvlm_tiny(), samples=SAMPLES)
    only = maskvlm.Weights(contrastive=0, itm=0, mlm=0)
    return replace(
        run,
        model=replace(run.model, text_free=text_free),
        options=replace(run.options, weights=only),
        alignment=Alignment(),
    )


CLAIM = Claim(
    sentence="MaskVLM paints hidden parts of a picture from its caption.",
    arms=(
        Arm("maskvlm", lambda: as_run(Detailed, _run(text_free=False)), LOOKS),
        Arm("text_free", lambda: as_run(Detailed, _run(text_free=True)), LOOKS),
    ),
    comparisons=(
        Comparison(
            "variance explained in hidden patches",
            "maskvlm",
            "text_free",
            ("patches/variance_explained",),
            errors=BLIND_ERRORS,
        ),
    ),
    threshold=BLIND_THRESHOLD,
    seeds=FEW,
)
