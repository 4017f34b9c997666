"""LLaVA in two rounds: the connector on captions, then the connector and the language model on conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diptych.capabilities.predictor import Predictor
from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.derived.captions_only import CaptionsOnly
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._answered import answered
from diptych.recipes._earlier import EarlierStage
from diptych.recipes._on_llava import OnLlava
from diptych.recipes._own_parts import OwnParts
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train

_ASKED = 200
"""Questions of the selection data."""


@dataclass(frozen=True, kw_only=True)
class LlavaRun(OwnParts, OnLlava):
    """A tower and a language model, given or trained first, and what joins them; `trained` is of the second round.

    Attributes:
        captions: how the connector is trained by itself, in the first round.
    """

    captions: EarlierStage = field(default_factory=lambda: EarlierStage(400, 32, 2e-3))
    prompt: str = "What does the picture show?"

    def stages(self) -> Sequence[Stage]:
        first = Train(
            "captions",
            source=lambda context: CaptionsOnly(self.training_data()),
            task=lambda context: self.llava_task(context, Trained()),
            settings=self.captions.applied_to(self),
        )
        second = Train(
            "train",
            source=lambda context: self.training_data(),
            task=self._second,
            evaluate=self.evaluator,
        )
        return (*self.own_stages(), first, second)

    def evaluator(self, context: Context) -> Evaluate:
        """The share of held-out questions that are answered word for word."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            return {"answered": answered(model, source, _ASKED)}

        return measure

    def _second(self, context: Context) -> llava.LlavaTask:
        task = self.llava_task(context, self.trained)
        task.load_state_dict(context.trained("captions"))
        return task


def llava_tiny() -> LlavaRun:
    """Scenes of 48 pixels as 36 features, through an MLP."""
    return LlavaRun(
        name="llava_tiny",
        data="scenes?size=48&objects=2&words=0",
        image=ImagePreprocessing(48, views=None),
        model=llava.Config(ConnectorConfig("mlp"), layer=-1),
        context=64,
        vocab_size=512,
        threads=1,
        batch_size=32,
        budget=Budget(steps=800),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=50),
        log_every=50,
        evaluate_every=400,
    )
