"""A memory of documents lowers CM3Leon's loss on scenes of rare colours, and what the documents say is why.

Yu et al. 2023 (arXiv 2309.02591), after Yasunaga et al. 2022 (arXiv 2211.12561): a document that a contrastive model
finds by the prompt stands before it. Two of eight colours are rare in training. The same weights are measured with the
documents that are found, with none, and with documents that another prompt would have found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from _claim import FEW, Arm, Claim, Comparison, Evaluation, scenes, threshold
from _drawing import WORLD, quiet
from _sources import as_run, of_colours, thinned

from diptych.capabilities.predictor import Predictor
from diptych.core.source import Source
from diptych.data.scenes.world import COLOURS
from diptych.models.generative._picture_codes import VqPictures
from diptych.models.generative.cm3leon import Cm3LeonPredictor
from diptych.recipes.cm3leon_tiny import Cm3LeonRun, cm3leon_tiny
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate

RARE = ("purple", "cyan")
COMMON = tuple(colour for colour in COLOURS if colour not in RARE)
KEPT = 0.125
"""Share of the scenes of a rare colour that is trained on: both together are then 4 % of the samples."""
SAMPLES, BATCH, CODES, RETRIEVER = 16_000, 16, 1000, 200
"""Of the model; steps of what it stands on."""
PICTURES = 200
LOSSES = ("image_nats", "text_nats")
"""A code of the picture, told the caption, and a token of the caption, shown the picture."""


@dataclass(frozen=True, kw_only=True)
class Thinned(Cm3LeonRun):
    """The recipe where two colours are rare, in the training of every part and in the memory; measured by the claim."""

    def training_data(self) -> Source:
        return thinned(super().training_data(), RARE, KEPT)

    def evaluator(self, context: Context) -> Evaluate:
        return lambda model: {}


def _run() -> Thinned:
    """Positions are turned: those that are learned would be seen half as often behind a document as at the start.

    A code stands for 8 x 8 pixels, so a document is short, and so is the training.
    """
    run = as_run(Thinned, quiet(cm3leon_tiny()))
    codes = run.model.codes
    assert isinstance(codes, VqPictures)
    coarse = replace(codes.tokenizer, autoencoder=replace(codes.tokenizer.autoencoder, patch=8))
    trunk = replace(run.model.trunk, rotary=10_000.0)
    return replace(
        run,
        model=replace(run.model, codes=replace(codes, tokenizer=coarse), trunk=trunk),
        batch_size=BATCH,
        budget=Budget(steps=SAMPLES // BATCH),
        codes=replace(run.codes, steps=CODES),
        retriever=replace(run.retriever, steps=RETRIEVER),
    )


def _alone(model: Predictor) -> Predictor:
    """Nothing is found."""
    _cm3leon(model).module.memory = None
    return model


def _others(model: Predictor) -> Predictor:
    """Every place of the memory holds the document of the place before it: what is found is found for no reason."""
    memory = _cm3leon(model).module.memory
    assert memory is not None
    memory.tokens_NT, memory.lengths_N = memory.tokens_NT.roll(1, 0), memory.lengths_N.roll(1, 0)
    return model


def _without_rare(model: Predictor) -> Predictor:
    """The memory has no document that names a rare colour."""
    module, words = _cm3leon(model).module, _cm3leon(model).processor.tokenizer
    assert module.memory is not None
    for place, row in enumerate(module.memory.tokens_NT.tolist()):
        said = words.decode(row[: row.index(module.layout.begin)])
        if any(colour in said.split() for colour in RARE):
            module.memory.lengths_N[place] = 0
    return model


def _cm3leon(model: Predictor) -> Cm3LeonPredictor:
    assert isinstance(model, Cm3LeonPredictor)
    return model


def _looks(name: str, colours: tuple[str, ...]) -> tuple[Evaluation, ...]:
    own = Evaluation(
        name, lambda: of_colours(scenes(WORLD)(), colours), "likelihood_calibration", LOSSES, PICTURES, {"among": 2}
    )
    return (
        own,
        replace(own, name=f"{name}_alone", seen_as=_alone),
        replace(own, name=f"{name}_others", seen_as=_others),
    )


def _lowers(
    name: str, treated: str, control: str, losses: tuple[str, ...] = LOSSES, primary: bool = False
) -> Comparison:
    return Comparison(
        name, "cm3leon", "cm3leon", tuple(f"{treated}/{loss}" for loss in losses),
        against=tuple(f"{control}/{loss}" for loss in losses), lower=True, primary=primary,
    )  # fmt: skip


LOOKS = _looks("rare", RARE)
CLAIM = Claim(
    sentence="Documents that are found by the prompt lower CM3Leon's loss on scenes of rare colours.",
    arms=(
        Arm(
            "cm3leon", _run,
            (*LOOKS, replace(LOOKS[0], name="rare_without", seen_as=_without_rare), *_looks("common", COMMON)),
        ),
    ),
    comparisons=(
        _lowers("what is found, against nothing", "rare", "rare_alone", primary=True),
        _lowers("what is found, against documents of others", "rare", "rare_others", primary=True),
        _lowers("what is found, against a memory without rare colours", "rare", "rare_without"),
        _lowers("pictures alone, against nothing", "rare", "rare_alone", ("image_nats",)),
        _lowers("pictures alone, against documents of others", "rare", "rare_others", ("image_nats",)),
        _lowers("captions alone, against nothing", "rare", "rare_alone", ("text_nats",)),
        _lowers("captions alone, against documents of others", "rare", "rare_others", ("text_nats",)),
        _lowers("common colours, against nothing", "common", "common_alone"),
        _lowers("common colours, against documents of others", "common", "common_others"),
    ),
    threshold=threshold(FEW),
    seeds=FEW,
)  # fmt: skip
