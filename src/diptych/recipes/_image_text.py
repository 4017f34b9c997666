"""What recipes that train on pictures with captions share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.capabilities.load import load
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.source import Source
from diptych.core.task import Task
from diptych.data.hard_negatives import check_kinds
from diptych.data.image_text import ImagePreprocessing, ImageTextConfig, TextPreprocessing
from diptych.data.open import open_source
from diptych.data.subset import hold_out
from diptych.data.text import Tokenizer
from diptych.evaluation.runner import evaluate
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Evaluate, Report, Stage, Train, fit_tokenizer, fitted_tokenizer

SELECTED_BY = "text_to_image_r10"


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
class ImageTextRun(Run):
    """A contrastive model from scratch: fit a tokenizer to the captions, then train.

    Attributes:
        image: preprocessing and views.
        context: the longest caption in tokens.
        vocab_size: of the tokenizer, at most.
        held_out: how many training samples to select on instead, where the data has no "val" split of its own.
        masking: which share of patches and tokens is dropped before the towers in training (FLIP).
        negatives: kinds of hard negatives that each pair is given one of (NegCLIP); none for plain pairs.
        same_text: whether equal captions in a batch are positives of one another's pictures.
        tuning: a last stage without masking, from the weights that training ended with.
    """

    image: ImagePreprocessing = field(default_factory=ImagePreprocessing)
    context: int = 64
    vocab_size: int = 8192
    held_out: int = 500
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

    def training_data(self) -> Source:
        """What is trained on."""
        return split_data(self.data, self.held_out)[0]

    def selection_data(self) -> Source:
        """What checkpoints are selected on; never the split that is reported."""
        return split_data(self.data, self.held_out)[1]

    def stages(self) -> Sequence[Stage]:
        tokenizer = fit_tokenizer(lambda context: all_captions(self.training_data()), self.vocab_size)
        train = self._training("train", lambda context: self._task(context, self.masking))
        if not self.tuning.steps:
            return (tokenizer, train)
        tune = self._training("tune", self._tuned_task, self.tuning.applied_to(self))
        return (tokenizer, train, tune)

    def _training(self, name: str, task: Callable[[Context], Task[Any]], settings: Run | None = None) -> Train:
        return Train(
            name,
            source=lambda context: self.training_data(),
            task=task,
            evaluate=lambda context: retrieval_on(self.selection_data()),
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


def split_data(reference: str, held_out: int) -> tuple[Source, Source]:
    """Training data, and what to select on: the scenes have a split for it, from other data it is held out."""
    if reference.partition("?")[0] == "scenes":
        return open_source(reference, "train"), open_source(reference, "val")
    train = open_source(reference, "train")
    return hold_out(train, min(held_out, max(len(train) // 5, 1)))


def all_captions(source: Source, most: int = 20_000) -> Iterator[str]:
    """The captions of the first samples; bad records are the training's to count."""
    for index in range(min(len(source), most)):
        try:
            yield from source[index].texts
        except BadSample:
            continue


def retrieval_on(source: Source, limit: int = 500) -> Evaluate:
    """Recalls on held-out data."""

    def measure(model: Predictor) -> dict[str, float]:
        (result,) = evaluate(model, ["retrieval"], source, limit=limit)
        return {name: result.metrics[name].value for name in ("image_to_text_r1", "text_to_image_r1", SELECTED_BY)}

    return measure


def report_on(reference: str, split: str) -> Report:
    """A last stage that reads a split once; opened here already, so that a run fails before it trains, not after.

    Raises:
        DataError: the data have no such split, or a list of keys names nothing of it.
    """
    open_source(reference, split)
    return Report(split, lambda context: _write_report(context, reference, split))


def _write_report(context: Context, reference: str, split: str) -> None:
    """Evaluates the selected checkpoint on a split that nothing was selected on, into the run's folder."""
    model = load(context.folder.best_model(), context.device)
    (result,) = evaluate(model, ["retrieval"], reference, split=split, folder=context.folder.evaluation)
    for name in ("image_to_text_r1", "image_to_text_r10", "text_to_image_r1", SELECTED_BY):
        metric = result.metrics[name]
        print(f"{split} {name} {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}] chance {metric.chance:.3f}")
