"""Imagen on scenes of one object: a language model on captions, then 8, 16 and 32 pixels, each stage by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.derived.caption_pairs import CaptionPairs
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.frozen_text import T5Text
from diptych.models.generative import imagen
from diptych.models.generative._language import LanguageTask
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._generator import GeneratorRun
from diptych.recipes._image_tokens import part_of
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage, Train

_LANGUAGE = "language"


def _language() -> EarlierStage:
    return EarlierStage(800, 64, 1e-3, weight_decay=0.05, beta2=0.98)


@dataclass(frozen=True, kw_only=True)
class ImagenRun(GeneratorRun):
    """A text encoder first, unless a T5 is named; then one stage of the cascade after another.

    Attributes:
        t5: a `transformers` folder of a T5, which reads the text in the place of our own encoder.
        language: how our own is trained.
        enlarging: steps of each stage after the first, as a share of the first's: enlarging is easier than drawing.
    """

    model: imagen.Config = field(default_factory=imagen.Config.tiny)
    t5: str = ""
    language: EarlierStage = field(default_factory=_language)
    enlarging: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.t5) != self.model.t5:
            raise ConfigError("model.t5 says whether a T5 reads the text: name its folder with --t5, or switch it off")
        if self.enlarging <= 0:
            raise ConfigError(f"enlarging {self.enlarging} must be above 0")
        if self.t5 and not Path(self.t5).is_dir():
            raise ConfigError(f"--t5: no folder at {self.t5}")

    def stages(self) -> Sequence[Stage]:
        first: list[Stage] = [] if self.t5 else [self.tokenizer_stage(mask=True), self._text()]
        return (*first, *(self._stage(number) for number in range(len(self.model.stages))))

    def processor(self, context: Context, padded: bool = False) -> ImageTextProcessor:
        if not self.t5:
            return super().processor(context, padded)
        settings = ImageTextConfig(self.image, TextPreprocessing(self.context))
        return ImageTextProcessor(settings, Tokenizer.from_folder(self.t5))

    def _text(self) -> Train:
        def task(context: Context) -> LanguageTask:
            processor = self.processor(context)
            return LanguageTask(self.model.with_vocabulary(processor.tokenizer.vocab_size).text, processor)

        # Of a caption alone nothing tells a hidden colour, and a model that need not tell colours apart does not.
        settings = self.language.applied_to(self)
        return Train(_LANGUAGE, source=lambda context: CaptionPairs(self.training_data()), task=task, settings=settings)

    def _stage(self, number: int) -> Train:
        last = number == len(self.model.stages) - 1
        return Train(
            self._name(number),
            source=lambda context: self.training_data(),
            task=lambda context: self._task(context, number),
            evaluate=self.evaluator if last else None,
            show=self.shown if last else None,
            settings=replace(self, budget=self._enlarging()) if number else None,
        )

    def _enlarging(self) -> Budget:
        return Budget(steps=max(1, round(self.enlarging * self.budget.total_steps(self.batch_size))))

    def _name(self, number: int) -> str:
        return f"pixels_{self.model.stages[number].size}"

    def _task(self, context: Context, number: int) -> imagen.ImagenTask:
        processor = self.processor(context)
        sizes = self.model.with_vocabulary(processor.tokenizer.vocab_size)
        known = part_of(context.trained(self._name(number - 1)), "model.") if number else None
        t5 = T5Text.read(Path(self.t5)) if self.t5 else None
        return imagen.ImagenTask(sizes, processor, number, known, self._read(context, number), t5)

    def _read(self, context: Context, number: int) -> dict[str, Tensor] | None:
        """The text encoder's weights, which the first stage takes in and the others have already."""
        return part_of(context.trained(_LANGUAGE), "text.") if not number and not self.t5 else None


def imagen_tiny() -> ImagenRun:
    """Scenes of 32 pixels; the averaged weights of every stage are kept."""
    return ImagenRun(
        name="imagen_tiny",
        data="scenes?size=32&objects=1&words=0&zoom=2&patterns=0&noise=0",
        image=ImagePreprocessing(32, mean=imagen.MEAN, std=imagen.STD, views=None),
        vocab_size=512,
        threads=1,
        batch_size=32,
        ema_decay=0.995,
        budget=Budget(steps=2500),
        enlarging=0.4,
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.01),
        schedule=WarmupCosine(warmup=100),
        log_every=50,
        evaluate_every=0,
    )
