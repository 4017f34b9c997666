"""A recipe from outside: trains the model beside it on small scenes."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.open import open_source
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Stage, Train, fit_tokenizer, fitted_tokenizer
from outside_package import mean_colour


@dataclass(frozen=True, kw_only=True)
class ColourRun(Run):
    """Fit a tokenizer, then train."""

    model: mean_colour.Config = mean_colour.Config()  # noqa: RUF009  (frozen)

    def stages(self) -> tuple[Stage, ...]:
        def task(context: Context) -> mean_colour.MeanColourTask:
            tokenizer = fitted_tokenizer(context)
            settings = ImageTextConfig(ImagePreprocessing(16), TextPreprocessing(64))
            sizes = mean_colour.Config(tokenizer.vocab_size, self.model.width)
            return mean_colour.MeanColourTask(sizes, ImageTextProcessor(settings, tokenizer))

        def captions(context: Context) -> list[str]:
            source = open_source(self.data, "train")
            return [text for index in range(200) for text in source[index].texts]

        return (
            fit_tokenizer(captions, 300),
            Train("train", source=lambda context: open_source(self.data, "train"), task=task),
        )


def small() -> ColourRun:
    """A few seconds."""
    return ColourRun(
        name="small",
        data="scenes?objects=1&size=32",
        batch_size=64,
        budget=Budget(steps=150),
        optimizer=AdamWConfig(lr=1e-2, weight_decay=0.0),
        schedule=WarmupCosine(warmup=10),
    )
