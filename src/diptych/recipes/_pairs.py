"""What recipes that train on pictures with captions share, whatever the family: data, tokenizer, evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.capabilities.load import load
from diptych.capabilities.predictor import Predictor
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric
from diptych.core.source import Source
from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.derived.subset import hold_out
from diptych.data.open import open_source
from diptych.evaluation.runner import evaluate
from diptych.training.run import Run
from diptych.training.stages import Artifact, Context, Evaluate, Report, fit_tokenizer

SELECTED_BY = "text_to_image_r10"
RECALLS = ("image_to_text_r1", "text_to_image_r1", SELECTED_BY)


@dataclass(frozen=True, kw_only=True)
class PairsRun(Run):
    """A run on pictures with captions that fits its own tokenizer.

    Attributes:
        image: preprocessing and views.
        context: the longest caption in tokens.
        vocab_size: of the tokenizer, at most.
        held_out: how many training samples to select on instead, where the data has no "val" split of its own.
    """

    image: ImagePreprocessing = field(default_factory=ImagePreprocessing)
    context: int = 64
    vocab_size: int = 8192
    held_out: int = 500

    def training_data(self) -> Source:
        """What is trained on."""
        return split_data(self.data, self.held_out)[0]

    def selection_data(self) -> Source:
        """What checkpoints are selected on; never the split that is reported."""
        return split_data(self.data, self.held_out)[1]

    def tokenizer_stage(self, mask: bool = False) -> Artifact:
        """Fits the tokenizer to the captions that are trained on; with a mask token for models that fill in words."""
        return fit_tokenizer(lambda context: all_captions(self.training_data()), self.vocab_size, mask=mask)

    def evaluator(self, context: Context) -> Evaluate:
        """Recalls on what is selected on."""
        return retrieval_on(self.selection_data())


def split_data(reference: str, held_out: int) -> tuple[Source, Source]:
    """Training data, and what to select on: the scenes have a split for it, from other data it is held out."""
    if reference.partition("?")[0] == "scenes":
        return open_source(reference, "train"), open_source(reference, "val")
    train = open_source(reference, "train")
    return hold_out(train, min(held_out, max(len(train) // 5, 1)))


def all_captions(source: Source, most: int = 20_000) -> Iterator[str]:
    """The captions of the first samples, and the words of documents; bad records are the training's to count."""
    for index in range(min(len(source), most)):
        try:
            sample = source[index]
            yield from sample.texts
            yield from (part for part in sample.parts if isinstance(part, str))
        except BadSample:
            continue


def retrieval_on(source: Source, limit: int = 500) -> Evaluate:
    """Recalls on held-out data."""

    def measure(model: Predictor) -> dict[str, float]:
        (result,) = evaluate(model, ["retrieval"], source, limit=limit)
        return {name: result.metrics[name].value for name in RECALLS}

    return measure


READ_OUT = {"retrieval": ("image_to_text_r1", "image_to_text_r10", "text_to_image_r1", SELECTED_BY)}
"""What a report says in a line each, by benchmark; its files hold everything."""


def report_on(
    reference: str, split: str, read_out: Mapping[str, Sequence[str]] = READ_OUT,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Report:  # fmt: skip
    """A last stage that reads a split once; opened here already, so that a run fails before it trains, not after.

    Args:
        read_out: the benchmarks to run, and which of each one's metrics are printed.
        settings: benchmark -> the fields of its `Settings` to change.

    Raises:
        DataError: the data have no such split, or a list of keys names nothing of it.
    """
    open_source(reference, split)

    def write(context: Context) -> None:
        model = load(context.folder.best_model(), context.device)
        results = evaluate(
            model, list(read_out), reference, split=split, folder=context.folder.evaluation, settings=settings
        )
        for result in results:
            for name in read_out[result.benchmark]:
                print(f"{split} {name} {_line(result.metrics[name])}")

    return Report(split, write)


def _line(metric: Metric) -> str:
    """A number, its interval and chance, where there are such."""
    parts = [f"{metric.value:.3f}"]
    if metric.low is not None:
        parts.append(f"[{metric.low:.3f}, {metric.high:.3f}]")
    if metric.chance is not None:
        parts.append(f"chance {metric.chance:.3f}")
    return " ".join(parts)
