"""CM3Leon's pictures show the object and the colour that a prompt names.

Yu et al. 2023 (arXiv 2309.02591): one model of documents some of whose parts were moved to the end, told another
document that a contrastive model finds by the prompt. Pictures are drawn under guidance, or by contrastive decoding
(CD-K), from the same weights. Every pair is trained with its text first; where the text is moved to the end, the model
still learns to write it after the picture.
"""

from __future__ import annotations

from dataclasses import replace

from _claim import FEW, Arm, Claim
from _drawing import DRAWING_THRESHOLD, beats_chance, drawn, quiet, raises

from diptych.capabilities.predictor import Predictor
from diptych.models.generative.cm3leon import Cm3LeonPredictor
from diptych.recipes.cm3leon_tiny import Cm3LeonRun, cm3leon_tiny
from diptych.training.run import Budget

SAMPLES, BATCH = 32_000, 16


def _contrasted(model: Predictor) -> Predictor:
    """The same weights under contrastive decoding, with the alpha of Li et al. 2022 (arXiv 2210.15097)."""
    assert isinstance(model, Cm3LeonPredictor)
    config = replace(model.config, contrast=0.1, contrast_k=2)
    return Cm3LeonPredictor(config, model.processor, model.module, model.name)


def _run() -> Cm3LeonRun:
    run = quiet(cm3leon_tiny())
    model = replace(run.model, image_first=0.0)
    return replace(run, model=model, batch_size=BATCH, budget=Budget(steps=SAMPLES // BATCH))


LOOKS = (
    drawn("own"),
    drawn("unguided", {"guidance": 1.0}),
    replace(drawn("contrasted"), seen_as=_contrasted),
)

CLAIM = Claim(
    sentence="CM3Leon's pictures show the object and the colour that a prompt names.",
    arms=(Arm("cm3leon", _run, LOOKS),),
    comparisons=(
        beats_chance("cm3leon"),
        raises("guidance", "cm3leon", "own", "unguided"),
        raises("contrastive decoding", "cm3leon", "contrasted", "unguided"),
    ),
    threshold=DRAWING_THRESHOLD,
    seeds=FEW,
)
