"""MiniGPT-4 in two rounds of one linear map: many captioned pictures, then few conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diptych.capabilities.predictor import Predictor
from diptych.core.source import Source
from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.derived.caption_as_context import CaptionAsContext
from diptych.data.derived.subset import select_keys
from diptych.data.derived.without import WithoutTurns
from diptych.models.pretrained_backbone import minigpt4
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._answer_rates import answered
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._own_parts import END, OwnParts
from diptych.recipes._prefix_parts import read_parts
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train

PAIRS = "pairs"
_ASKED = 200
"""Questions of the selection data."""


@dataclass(frozen=True, kw_only=True)
class MiniGpt4Run(OwnParts):
    """A tower and a language model, given or trained first and frozen for good, and one linear map.

    Attributes:
        pairs: the first round, on captions.
        few: how many conversations the second round has.
        prompt: what is asked for a caption.
        max_length: the longest conversation in tokens.
    """

    model: minigpt4.Config = field(default_factory=lambda: minigpt4.Config(None))
    pairs: EarlierStage = field(default_factory=lambda: EarlierStage(200, 32, 1e-3))
    few: int = 400
    prompt: str = "What does the picture show?"
    max_length: int = 256

    def stages(self) -> Sequence[Stage]:
        first = Train(
            PAIRS,
            source=lambda context: WithoutTurns(self.training_data()),
            task=self._task,
            evaluate=self.evaluator,
            settings=self.pairs.applied_to(self),
        )
        second = Train(
            "train",
            source=lambda context: self.conversations(),
            task=self._second,
            evaluate=self.evaluator,
        )
        return (*self.own_stages(), first, second)

    def conversations(self) -> Source:
        """The few of the second round: the first of the training data."""
        whole = self.training_data()
        return select_keys(whole, list(whole.keys())[: self.few])

    def words_source(self) -> Source:
        """Words by which it learns to look back for what it was told: all that vectors before words can use."""
        return CaptionAsContext(self._data_of_parts(), self.prompt)

    def evaluator(self, context: Context) -> Evaluate:
        """The share of held-out questions that are answered word for word, and that with another's picture."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            return {
                "answered": answered(model, source, _ASKED),
                "swapped": answered(model, source, _ASKED, "swapped"),
            }

        return measure

    def _second(self, context: Context) -> minigpt4.MiniGpt4Task:
        task = self._task(context)
        task.load_state_dict(context.trained(PAIRS))
        return task

    def _task(self, context: Context) -> minigpt4.MiniGpt4Task:
        parts = read_parts(self, context, self.model, minigpt4.template(END), self.max_length, self.prompt)
        return minigpt4.MiniGpt4Task(self.model, *parts, Trained())


def minigpt4_tiny() -> MiniGpt4Run:
    """Scenes of 48 pixels as 36 features, each mapped by itself: no Q-Former, whose own stage takes longer."""
    return MiniGpt4Run(
        name="minigpt4_tiny",
        data="scenes?size=48&objects=2&words=0",
        image=ImagePreprocessing(48, views=None),
        model=minigpt4.Config(None, layer=-1, special=1),
        words=EarlierStage(1500, 64, 1e-3, weight_decay=0.05, beta2=0.98),
        context=64,
        vocab_size=512,
        threads=1,
        batch_size=32,
        budget=Budget(steps=100),
        optimizer=AdamWConfig(lr=5e-4, weight_decay=0.0),
        schedule=WarmupCosine(warmup=20),
        log_every=50,
        evaluate_every=100,
    )
