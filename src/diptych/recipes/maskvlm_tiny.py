"""MaskVLM on scenes of several objects, in about five minutes on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diptych.core.errors import ConfigError
from diptych.data.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.views import Views
from diptych.models.masked import maskvlm
from diptych.recipes._pairs import SELECTED_BY, PairsRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Stage, Train, fitted_tokenizer


@dataclass(frozen=True)
class Alignment:
    """A first stage with the contrastive loss alone, at a fifth of the cost of a step with all losses.

    The other losses are learned sooner between encoders that know which words go with which picture.

    Attributes:
        samples: seen in it; 0 for no such stage.
        batch_size: of its global batch; 0 for that of the run.
        lr_scale: multiplies the run's learning rate.
    """

    samples: int = 0
    batch_size: int = 0
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.samples < 0 or self.batch_size < 0 or self.lr_scale <= 0:
            raise ConfigError(
                f"alignment of {self.samples} samples in batches of {self.batch_size} at {self.lr_scale} of the "
                f"learning rate: give 0 or more of both, and a rate above 0"
            )

    def applied_to(self, run: Run) -> Run:
        """The settings of the stage; nothing is selected on it, so it is not measured."""
        return replace(
            run,
            budget=Budget(samples=self.samples),
            batch_size=self.batch_size or run.batch_size,
            optimizer=replace(run.optimizer, lr=run.optimizer.lr * self.lr_scale),
            evaluate_every=0,
        )


@dataclass(frozen=True, kw_only=True)
class MaskVlmRun(PairsRun):
    """A MaskVLM from scratch.

    Attributes:
        options: what is masked, and which losses count how much.
        alignment: the first stage, from whose weights the second goes on.
    """

    model: maskvlm.Config = field(default_factory=maskvlm.Config.tiny)
    options: maskvlm.MaskVlmOptions = field(default_factory=maskvlm.MaskVlmOptions)
    alignment: Alignment = field(default_factory=Alignment)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.options.hidden_count(self.model.vision.image_size, self.model.vision.patch_size)  # fails before training
        if self.batch_size == 1:
            raise ConfigError(
                "the contrastive loss and hard negatives need other pairs in the batch: raise batch_size to 2 or more"
            )

    def stages(self) -> Sequence[Stage]:
        train = Train(
            "train",
            source=lambda context: self.training_data(),
            task=self._joint_task,
            evaluate=self.evaluator,
            best=SELECTED_BY,
        )
        if not self.alignment.samples:
            return (self.tokenizer_stage(mask=True), train)
        align = Train(
            "align",
            source=lambda context: self.training_data(),
            task=lambda context: self._task(
                context, replace(self.options, weights=maskvlm.Weights(itm=0, mlm=0, mim=0))
            ),
            settings=self.alignment.applied_to(self),
        )
        return (self.tokenizer_stage(mask=True), align, train)

    def _task(self, context: Context, options: maskvlm.MaskVlmOptions) -> maskvlm.MaskVlmTask:
        tokenizer = fitted_tokenizer(context)
        settings = ImageTextConfig(self.image, TextPreprocessing(self.context))
        sizes = self.model.with_vocabulary(tokenizer.vocab_size)
        return maskvlm.MaskVlmTask(sizes, ImageTextProcessor(settings, tokenizer), options)

    def _joint_task(self, context: Context) -> maskvlm.MaskVlmTask:
        """The task with all losses, from the weights that the alignment ended with."""
        task = self._task(context, self.options)
        if self.alignment.samples:
            task.load_state_dict(context.trained("align"))
        return task


def maskvlm_tiny() -> MaskVlmRun:
    """Crops stay close to the whole picture: captions speak of places."""
    return MaskVlmRun(
        name="maskvlm_tiny",
        data="scenes",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        vocab_size=512,
        options=maskvlm.MaskVlmOptions(image_block=16),
        alignment=Alignment(samples=16_000),
        batch_size=64,
        budget=Budget(steps=300),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=150,
    )
