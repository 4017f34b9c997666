"""Llip beats SigLIP where captions vary.

Lavoie et al. 2024 (arXiv 2405.00740): people caption one picture in many ways, so the picture's vector should depend on
the caption it is compared with. Here every scene has five true captions of different detail, one of which is drawn each
time. Where a picture has one caption alone, a function of the picture, there is nothing to listen for: the control.

`one_token` is Llip with one mixture token, which is a SigLIP with Llip's towers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from _claim import Arm, Claim, Comparison, Evaluation, scenes
from _settings import WORLD, small
from _sources import OneCaption, as_run, first_caption

from diptych.recipes.llip_tiny import LlipRun, llip_tiny
from diptych.recipes.siglip_tiny import SiglipRun, siglip_tiny

SAMPLES, BATCH, LR = 14_400, 32, 5e-4
VARIED = (Evaluation("varied", scenes(WORLD)),)
ONE = (Evaluation("one", lambda: first_caption(scenes(WORLD)())),)
METRICS = ("text_to_image_r10", "image_to_text_r10")


@dataclass(frozen=True, kw_only=True)
class LlipOneCaption(OneCaption, LlipRun):
    """Llip where captions do not vary."""


@dataclass(frozen=True, kw_only=True)
class SiglipOneCaption(OneCaption, SiglipRun):
    """SigLIP where captions do not vary."""


def _llip() -> LlipRun:
    return small(llip_tiny(), samples=SAMPLES, batch=BATCH, lr=LR)


def _siglip() -> SiglipRun:
    return small(siglip_tiny(), samples=SAMPLES, batch=BATCH, lr=LR)


def _one_token() -> LlipRun:
    run = _llip()
    return replace(run, model=replace(run.model, vision=replace(run.model.vision, class_tokens=1)))


CLAIM = Claim(
    sentence="Llip beats SigLIP where captions vary.",
    arms=(
        Arm("llip", _llip, VARIED),
        Arm("siglip", _siglip, VARIED),
        Arm("one_token", _one_token, VARIED),
        Arm("llip_one_caption", lambda: as_run(LlipOneCaption, _llip()), ONE),
        Arm("siglip_one_caption", lambda: as_run(SiglipOneCaption, _siglip()), ONE),
    ),
    comparisons=(
        Comparison("captions vary", "llip", "siglip", tuple(f"varied/{name}" for name in METRICS)),
        Comparison("the same towers", "llip", "one_token", tuple(f"varied/{name}" for name in METRICS), primary=False),
        Comparison(
            "captions do not vary",
            "llip_one_caption",
            "siglip_one_caption",
            tuple(f"one/{name}" for name in METRICS),
            primary=False,
        ),
    ),
)
