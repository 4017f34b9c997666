"""The ways to a model: a family, the model file that says what it can do, and the recipes that train it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from diptych.capabilities.verbs import Verb, reachable
from diptych.core import discovery
from diptych.guide.situation import VERB_OF, Need


class Family(StrEnum):
    """As the survey has them."""

    EARLY = "early fusion"
    CONTRASTIVE = "contrastive"
    MASKED = "masked"
    GENERATIVE = "generative"
    BACKBONES = "pretrained backbones"


@dataclass(frozen=True)
class Route:
    """One way.

    Attributes:
        model: the name of its file; the verbs stand in it.
        recipe: that needs data alone, the built-in scenes or one's own; "" where there is none.
        on_parts: that takes pretrained parts from folders; "" where there is none.
        parts: whether it stands on pretrained parts in any case.
    """

    family: Family
    title: str
    model: str
    recipe: str
    on_parts: str = ""
    parts: bool = False

    def verbs(self) -> dict[Verb, str]:
        """Verb -> how the model has it, from the literal in its file."""
        native = discovery.models()[self.model].literal("VERBS", ())
        return {verb: origin.how for verb, origin in reachable(native).items()}

    def how(self, need: Need) -> str | None:
        """How a need is met: "native", the rule that gives the verb, or None."""
        return self.verbs().get(VERB_OF[need])


ROUTES = (
    Route(Family.CONTRASTIVE, "CLIP from scratch", "clip", "clip_tiny"),
    Route(Family.CONTRASTIVE, "CLIP on locked towers", "locked_clip", "", "flickr8k_lit", parts=True),
    Route(Family.CONTRASTIVE, "public CLIP, fine-tuned", "fine_tuned", "", "clip_finetune", parts=True),
    Route(Family.EARLY, "VisualBERT", "visualbert", "visualbert_tiny"),
    Route(Family.MASKED, "MaskVLM", "maskvlm", "maskvlm_tiny", "flickr8k_maskvlm"),
    Route(Family.MASKED, "FLAVA", "flava", "flava_tiny", "flickr8k_flava"),
    Route(Family.GENERATIVE, "CoCa", "coca", "coca_tiny", "flickr8k_coca"),
    Route(Family.GENERATIVE, "Chameleon", "chameleon", "chameleon_tiny"),
    Route(Family.GENERATIVE, "Stable Diffusion", "stable_diffusion", "stable_diffusion_tiny"),
    Route(Family.BACKBONES, "LLaVA", "llava", "llava_tiny", "llava_tiny", parts=True),
)


def family_of(recipe: str) -> str:
    """The family of a recipe; "" of one that no route names."""
    return next((str(one.family) for one in ROUTES if recipe in (one.recipe, one.on_parts)), "")
