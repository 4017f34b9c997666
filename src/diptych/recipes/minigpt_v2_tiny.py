"""MiniGPT-v2 in two rounds: captions, then questions, captions, phrases and boxes, each behind its identifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diptych.adapters.language import LanguageAdapterConfig
from diptych.capabilities.predictor import Predictor
from diptych.core.source import Source
from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.derived.task_turns import TASKS, TaskName, TaskTurns
from diptych.layers.causal_block import CausalConfig
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import minigpt_v2
from diptych.models.pretrained_backbone._llama import LlamaConfig
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._answer_rates import answered
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._output_rates import kinds_of_output, located
from diptych.recipes._own_parts import END, OwnParts
from diptych.recipes._pairs import report_on
from diptych.recipes._prefix_parts import read_parts
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train

_ASKED = 100
"""Samples of the selection data."""
_READ_OUT = {"grounding": ("accuracy", "accuracy_swapped", "accuracy_mean_box", "unlocated")}


@dataclass(frozen=True, kw_only=True)
class MiniGptV2Run(OwnParts):
    """A tower and a language model, given or trained first, a linear map between them, and LoRA.

    Attributes:
        captions: the first round; its task is "[caption]".
        tasks: of the second round; one that is named twice has twice the share.
        rounds: how often each sample comes in an epoch, with a task of its own each time.
        max_length: the longest conversation in tokens.
    """

    model: minigpt_v2.Config = field(default_factory=minigpt_v2.Config)
    captions: EarlierStage = field(default_factory=lambda: EarlierStage(300, 32, 2e-3))
    tasks: tuple[TaskName, ...] = TASKS
    rounds: int = 1
    max_length: int = 256

    def stages(self) -> Sequence[Stage]:
        first = Train(
            "captions",
            source=lambda context: TaskTurns(self.training_data(), ("caption",)),
            task=self._task,
            settings=self.captions.applied_to(self),
        )
        second = Train(
            "train",
            source=lambda context: TaskTurns(self.training_data(), self.tasks, self.rounds),
            task=self._second,
            evaluate=self.evaluator,
        )
        return (*self.own_stages(), first, second, report_on(self.data, "test", _READ_OUT))

    def evaluator(self, context: Context) -> Evaluate:
        """On held-out samples: questions answered word for word, boxes that are right, kinds of output."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            return {
                "answered": answered(model, source, _ASKED),
                "located": located(model, source, _ASKED),
                **kinds_of_output(model, source, _ASKED // 2),
            }

        return measure

    def _data_of_parts(self) -> Source:
        """The language model has read identifiers and boxes, as the papers' has read digits."""
        return TaskTurns(super()._data_of_parts(), self.tasks, self.rounds)

    def _second(self, context: Context) -> minigpt_v2.MiniGptV2Task:
        task = self._task(context)
        task.load_state_dict(context.trained("captions"))
        return task

    def _task(self, context: Context) -> minigpt_v2.MiniGptV2Task:
        parts = read_parts(self, context, self.model, minigpt_v2.template(END), self.max_length, "")
        return minigpt_v2.MiniGptV2Task(self.model, *parts, Trained(language=True))


def minigpt_v2_tiny() -> MiniGptV2Run:
    """Scenes of 48 pixels as 36 features, four of them side by side."""
    return MiniGptV2Run(
        name="minigpt_v2_tiny",
        data="scenes?size=48&objects=2&words=0",
        image=ImagePreprocessing(48, resize="squash", views=None),
        model=minigpt_v2.Config(
            ConnectorConfig("linear", adjacent=4), layer=-1, adapter=LanguageAdapterConfig("lora", 64, 128.0)
        ),
        contrast=EarlierStage(300, 64, 1e-3, weight_decay=0.1, beta2=0.98),
        language=LlamaConfig(CausalConfig(128, 4, 4, 352), 640, 256),
        words=EarlierStage(500, 32, 2e-3, weight_decay=0.05, beta2=0.98),
        captions=EarlierStage(100, 32, 2e-3),
        tasks=("vqa", "vqa", "caption", "refer", "refer", "refer", "identify", "grounding"),
        context=64,
        vocab_size=640,
        threads=1,
        batch_size=32,
        budget=Budget(steps=480),
        optimizer=AdamWConfig(lr=2e-3, weight_decay=0.0),
        schedule=WarmupCosine(warmup=50),
        log_every=50,
        evaluate_every=240,
    )
