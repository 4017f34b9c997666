"""MaskVLM on scenes of one object, at the size of clip_tiny, in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.pixels.views import Views
from diptych.models.masked import maskvlm
from diptych.recipes._alignment import Alignment
from diptych.recipes._pairs import SELECTED_BY, PairsRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage, Train, fitted_tokenizer


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
        data="scenes?objects=1&words=0",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        vocab_size=512,
        options=maskvlm.MaskVlmOptions(image_block=16),
        alignment=Alignment(samples=24_000),
        batch_size=64,
        budget=Budget(steps=600),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=300,
    )
