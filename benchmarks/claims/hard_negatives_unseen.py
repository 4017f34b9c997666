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
from diptych.recipes.clip_tiny import ClipRun, clip_tiny

TRAINED = ("swap_attribute", "swap_relation")
UNSEEN = ("swap_object", "replace_attribute", "replace_object", "order")
SAMPLES, BATCH, LR = 19_200, 32, 5e-4
TEST = (
    Evaluation("kinds", scenes(WORLD), "scene_negatives", (*TRAINED, *UNSEEN)),
    Evaluation("retrieval", lambda: true_captions(scenes(WORLD)(), TRAINED)),
)
RETRIEVAL = ("retrieval/text_to_image_r10", "retrieval/image_to_text_r10")
COMPARE = partial(Comparison, treated="clip_negatives", control="clip")


@dataclass(frozen=True, kw_only=True)
class SameCaptions(ClipRun):
    """The captions that come with the negatives, and none of these."""

    def training_data(self) -> Source:
        return true_captions(super().training_data(), TRAINED)

    def selection_data(self) -> Source:
        return true_captions(super().selection_data(), TRAINED)


def _clip() -> ClipRun:
    return small(clip_tiny(), samples=SAMPLES, batch=BATCH, lr=LR)


CLAIM = Claim(
    sentence="Hard negatives help CLIP on kinds of negative that were not trained on, and retrieval is kept.",
    arms=(
        Arm("clip", lambda: as_run(SameCaptions, _clip()), TEST),
        Arm("clip_negatives", lambda: replace(_clip(), negatives=TRAINED), TEST),
    ),
    comparisons=(
        COMPARE("kinds not trained on", metrics=tuple(f"kinds/{kind}" for kind in UNSEEN)),
        COMPARE("retrieval kept", metrics=RETRIEVAL, margin=0.03),
        COMPARE("kinds trained on", metrics=tuple(f"kinds/{kind}" for kind in TRAINED), primary=False),
        *(COMPARE(kind, metrics=(f"kinds/{kind}",), primary=False) for kind in UNSEEN),
    ),
)
