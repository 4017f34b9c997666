"""What the claims about hidden words and matching share: one object a picture, one short caption, a blind control."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from _claim import Comparison, Evaluation, beats_blind, scenes
from _sources import Blind, Captions

from diptych.core.source import Source
from diptych.recipes._pairs import PairsRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget

SIDE = 48
WORLD = f"size={SIDE}&objects=1&words=0"
TRAINED_ON = f"{WORLD}&count=20000"
"""Every colour and every shape is seen in training; the combinations with size and place that are tested never are."""

R = TypeVar("R", bound=PairsRun)


def said(source: Source) -> Captions:
    """One caption, of size, colour and shape: "a large purple circle"."""
    return Captions(source, lambda sample: sample.texts[2:3], "size, colour and shape")


def blind(source: Source) -> Source:
    """In grey."""
    return Blind(source)


def seen() -> Source:
    """Held-out scenes with that caption."""
    return said(scenes(WORLD)())


def unseen() -> Source:
    """The same in grey: what the blind control is measured on is what it was trained on."""
    return blind(seen())


WORDS = ("colour", "shape", "colour_other_picture", "shape_other_picture", "colour_majority", "shape_majority")
SEES = (
    Evaluation("words", seen, "masked_words", WORDS, 1000),
    Evaluation("matching", seen, "matching", ("accuracy_expected",), 1000),
)
BLIND = (
    Evaluation("words", unseen, "masked_words", WORDS, 1000),
    Evaluation("matching", unseen, "matching", ("accuracy_expected",), 1000),
)
"""In grey every pair of captions may tie; a tie counts half."""


def seen_beats_blind(treated: str, control: str) -> tuple[Comparison, ...]:
    """Hidden colours, hidden shapes and matching, each by both halves of the threshold."""
    return (
        *beats_blind("hidden colours", treated, control, ("words/colour",)),
        *beats_blind("hidden shapes", treated, control, ("words/shape",)),
        *beats_blind("matching", treated, control, ("matching/accuracy_expected",)),
    )


class Short(PairsRun):
    """A run on these captions."""

    def training_data(self) -> Source:
        return said(super().training_data())

    def selection_data(self) -> Source:
        return said(super().selection_data())


class ShortBlind(Short):
    """The same on grey pictures."""

    def training_data(self) -> Source:
        return blind(super().training_data())

    def selection_data(self) -> Source:
        return blind(super().selection_data())


def short_run(run: R, *, samples: int, batch: int = 64, lr: float = 1e-3) -> R:
    """A tiny recipe on these scenes; a tenth of the steps warms up, and the last weights are taken."""
    steps = round(samples / batch)
    model = run.model  # type: ignore[attr-defined]
    if hasattr(model, "vision"):
        model = replace(model, vision=replace(model.vision, image_size=SIDE))
    return replace(
        run,
        data=f"scenes?{TRAINED_ON}",
        image=replace(run.image, size=SIDE),
        model=model,
        batch_size=batch,
        budget=Budget(steps=steps),
        optimizer=AdamWConfig(lr=lr, weight_decay=0.05),
        schedule=WarmupCosine(warmup=round(0.1 * steps)),
        evaluate_every=0,
        save_every=0,
    )
