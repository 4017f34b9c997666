"""Hard negatives help on kinds that were not trained on.

Yuksekgonul et al. 2022 (NegCLIP, arXiv 2210.01936). Here each pair is trained with a negative that exchanges two
colours or turns a relation round, and the model is asked about objects that change places in a relation, colours and
shapes that are not there, and shuffled words. The control sees the same captions without their negatives, so that
captions like those of the test are no advantage.

Retrieval must not be destroyed: at most three points below the control's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from _claim import Arm, Claim, Comparison, Evaluation, scenes
from _settings import WORLD, small
from _sources import as_run, true_captions

from diptych.core.source import Source
from diptych.recipes._image_text import ImageTextRun
from diptych.recipes.clip_tiny import ClipRun, clip_tiny
from diptych.recipes.siglip_tiny import SiglipRun, siglip_tiny

TRAINED = ("swap_attribute", "swap_relation")
UNSEEN = ("swap_object", "replace_attribute", "replace_object", "order")
SAMPLES, BATCH, LR = 12_800, 32, 5e-4
TEST = (
    Evaluation("kinds", scenes(WORLD), "scene_negatives", (*TRAINED, *UNSEEN)),
    Evaluation("retrieval", lambda: true_captions(scenes(WORLD)(), TRAINED)),
)
UNSEEN_METRICS = tuple(f"kinds/{kind}" for kind in UNSEEN)
TRAINED_METRICS = tuple(f"kinds/{kind}" for kind in TRAINED)
RETRIEVAL = ("retrieval/text_to_image_r10", "retrieval/image_to_text_r10")


class SameCaptions(ImageTextRun):
    """The captions that come with the negatives, and none of these."""

    def training_data(self) -> Source:
        return true_captions(super().training_data(), TRAINED)

    def selection_data(self) -> Source:
        return true_captions(super().selection_data(), TRAINED)


@dataclass(frozen=True, kw_only=True)
class PlainClip(SameCaptions, ClipRun):
    """CLIP on these captions."""


@dataclass(frozen=True, kw_only=True)
class PlainSiglip(SameCaptions, SiglipRun):
    """SigLIP on these captions."""


def _clip() -> ClipRun:
    return small(clip_tiny(), samples=SAMPLES, batch=BATCH, lr=LR)


def _siglip() -> SiglipRun:
    return small(siglip_tiny(), samples=SAMPLES, batch=BATCH, lr=LR)


def _comparisons(model: str, primary: bool) -> tuple[Comparison, ...]:
    compare = partial(Comparison, treated=f"{model}_negatives", control=model)
    return (
        compare(f"kinds not trained on, {model}", metrics=UNSEEN_METRICS, primary=primary),
        compare(f"retrieval kept, {model}", metrics=RETRIEVAL, margin=0.03, primary=primary),
        compare(f"kinds trained on, {model}", metrics=TRAINED_METRICS, primary=False),
        *(compare(f"{kind}, {model}", metrics=(f"kinds/{kind}",), primary=False) for kind in UNSEEN),
    )


CLAIM = Claim(
    sentence="Hard negatives help CLIP on kinds of negative that were not trained on, and retrieval is kept.",
    arms=(
        Arm("clip", lambda: as_run(PlainClip, _clip()), TEST),
        Arm("clip_negatives", lambda: replace(_clip(), negatives=TRAINED), TEST),
        Arm("siglip", lambda: as_run(PlainSiglip, _siglip()), TEST),
        Arm("siglip_negatives", lambda: replace(_siglip(), negatives=TRAINED), TEST),
    ),
    comparisons=(*_comparisons("clip", True), *_comparisons("siglip", False)),
)
