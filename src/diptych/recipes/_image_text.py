"""What recipes of contrastive models from scratch share: the options of pairs, and a last stage without masking."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.core.errors import ConfigError
from diptych.core.task import Task
from diptych.data.batches.image_text import ImageTextConfig, TextPreprocessing
from diptych.data.words.hard_negatives import check_kinds
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.recipes._pairs import SELECTED_BY, PairsRun
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Stage, Train, fitted_tokenizer


@dataclass(frozen=True)
class Tuning:
    """A short stage without masking, which closes the gap between training on some patches and testing on all.

    Attributes:
        steps: optimizer steps; 0 for no such stage.
        lr_scale: multiplies the run's learning rate.
        warmup: steps until that rate is reached.
    """

    steps: int = 0
    lr_scale: float = 0.1
    warmup: int = 10

    def __post_init__(self) -> None:
        if self.steps < 0 or self.lr_scale <= 0:
            raise ConfigError(
                f"tuning of {self.steps} steps at {self.lr_scale} of the learning rate: give 0 steps or "
                f"more, and a rate above 0"
            )

    def applied_to(self, run: Run) -> Run:
        """The settings of the stage."""
        optimizer = replace(run.optimizer, lr=run.optimizer.lr * self.lr_scale)
        schedule = replace(run.schedule, warmup=min(self.warmup, self.steps))
        return replace(run, budget=Budget(steps=self.steps), optimizer=optimizer, schedule=schedule)


@dataclass(frozen=True, kw_only=True)
class ImageTextRun(PairsRun):
    """A contrastive model from scratch: fit a tokenizer to the captions, then train.

    Attributes:
        masking: which share of patches and tokens is dropped before the towers in training (FLIP).
        negatives: kinds of hard negatives that each pair is given one of (NegCLIP); none for plain pairs.
        same_text: whether equal captions in a batch are positives of one another's pictures.
        tuning: a last stage without masking, from the weights that training ended with.
    """

    masking: Masking = field(default_factory=Masking)
    negatives: tuple[str, ...] = ()
    same_text: bool = False
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kinds(self.negatives)

    @abstractmethod
    def task(self, settings: ImageTextConfig, tokenizer: Tokenizer, options: PairOptions) -> Task[Any]:
        """The task for this preprocessing and vocabulary."""

    def stages(self) -> Sequence[Stage]:
        train = self._training("train", lambda context: self._task(context, self.masking))
        if not self.tuning.steps:
            return (self.tokenizer_stage(), train)
        tune = self._training("tune", self._tuned_task, self.tuning.applied_to(self))
        return (self.tokenizer_stage(), train, tune)

    def _training(self, name: str, task: Callable[[Context], Task[Any]], settings: Run | None = None) -> Train:
        return Train(
            name,
            source=lambda context: self.training_data(),
            task=task,
            evaluate=self.evaluator,
            best=SELECTED_BY,
            settings=settings,
        )

    def _task(self, context: Context, masking: Masking) -> Task[Any]:
        settings = ImageTextConfig(self.image, TextPreprocessing(self.context, negatives=self.negatives))
        return self.task(settings, fitted_tokenizer(context), PairOptions(masking, self.same_text))

    def _tuned_task(self, context: Context) -> Task[Any]:
        """The task without masking, with the weights that stage "train" ended with."""
        task = self._task(context, Masking())
        task.load_state_dict(context.trained("train"))
        return task
