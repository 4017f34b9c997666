"""Which family for which job: the survey's section 3.3 as rules, beside what was measured here.

Every rule is a sentence with where it comes from and what it weighs; the rank of a route is the sum. A route that
cannot do what is needed comes after all that can, and says what it cannot. All reasons are shown, so nothing hides in a
weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from diptych.capabilities.verbs import Verb
from diptych.guide.routes import ROUTES, Family, Route
from diptych.guide.situation import Need, Situation

FEW_PAIRS, MANY_PAIRS = 100_000, 10_000_000
"""Where training from scratch is hopeless for photographs, and where it begins to pay."""


@dataclass(frozen=True)
class Reason:
    """A sentence for or against a route.

    Attributes:
        weight: positive for, negative against.
        source: the survey's section, a paper, or the page of ours that has the numbers.
    """

    text: str
    weight: int
    source: str


@dataclass(frozen=True)
class Advice:
    """One route for one situation.

    Attributes:
        recipe: to begin with.
        how: need -> how it is met; None where it is not.
        reasons: for and against, the heaviest first.
    """

    route: Route
    recipe: str
    how: dict[Need, str | None]
    reasons: tuple[Reason, ...]

    @property
    def unmet(self) -> list[Need]:
        """What it cannot do."""
        return [need for need, how in self.how.items() if how is None]

    @property
    def weight(self) -> int:
        return sum(reason.weight for reason in self.reasons)

    @property
    def pros(self) -> list[Reason]:
        return [reason for reason in self.reasons if reason.weight > 0]

    @property
    def risks(self) -> list[Reason]:
        return [reason for reason in self.reasons if reason.weight < 0]


def advise(situation: Situation, routes: Sequence[Route] = ROUTES) -> list[Advice]:
    """Every route, the best first."""
    found = []
    for route in routes:
        how = {need: route.how(need) for need in situation.needs}
        reasons = [reason for rule in RULES for reason in rule(route, situation)]
        recipe = route.on_parts if situation.parts or not route.recipe else route.recipe
        reasons.sort(key=lambda one: -abs(one.weight))
        found.append(Advice(route, recipe or route.recipe, how, tuple(reasons)))
    return sorted(found, key=lambda one: (len(one.unmet), -one.weight))


Rule = Callable[[Route, Situation], Iterator[Reason]]


def _retrieval(route: Route, situation: Situation) -> Iterator[Reason]:
    if not {Need.RETRIEVAL, Need.LABELS} & set(situation.needs) or route.how(Need.RETRIEVAL) is None:
        return
    native = {verb for verb, how in route.verbs().items() if how == "native"}
    if {Verb.ENCODE_IMAGE, Verb.ENCODE_TEXT} <= native:
        yield Reason("pictures and texts become vectors once, and a search is a product", 2, "survey 3.3.1")
    else:
        yield Reason(
            "every text is read again with every picture, so a search costs a pass a pair", -2, "docs/study.md"
        )


def _words_out(route: Route, situation: Situation) -> Iterator[Reason]:
    needs = {Need.CAPTIONS, Need.ANSWERS} & set(situation.needs)
    if needs and route.verbs().get(Verb.GENERATE_TEXT) == "native":
        yield Reason("writes texts itself", 2, "survey 3.3.3")
    elif Need.ANSWERS in needs and route.how(Need.ANSWERS) is not None:
        yield Reason("answers only by choosing among given answers", -1, "docs/architecture.md, verbs")


def _large_batches(route: Route, situation: Situation) -> Iterator[Reason]:
    if route.family is Family.CONTRASTIVE and not route.parts and situation.gpus <= 1:
        yield Reason("wants large batches and much data; one device holds few negatives", -2, "survey 3.3.1")


def _small_batches(route: Route, situation: Situation) -> Iterator[Reason]:
    if route.family is Family.MASKED and situation.gpus <= 1:
        yield Reason(
            "the survey: each sample is learned from by itself, so small batches do; measured here this holds in part "
            "only, for its contrastive and matching losses still compare a batch",
            1,
            "survey 3.3.2; docs/claims/small_batches_masked.md",
        )


def _decoder(route: Route, situation: Situation) -> Iterator[Reason]:
    if route.family is Family.MASKED:
        yield Reason("a decoder for what is hidden is trained too, and thrown away afterwards", -1, "survey 3.3.2")


def _unpaired(route: Route, situation: Situation) -> Iterator[Reason]:
    if route.model == "flava" and situation.images + situation.texts > situation.pairs:
        yield Reason("learns from pictures alone and texts alone too", 2, "FLAVA, arXiv 2112.04482")
    if route.parts and situation.texts > 10 * situation.pairs:
        yield Reason("its language model may be trained on the texts alone first", 1, "docs/backbones.md")


def _generative_costs(route: Route, situation: Situation) -> Iterator[Reason]:
    if route.family is Family.GENERATIVE:
        weight = -2 if situation.gpus == 0 else -1
        yield Reason("costs more compute than contrast for the same encodings", weight, "survey 3.3.3")
        yield Reason("learns the joint distribution: how likely a text or a picture is can be asked", 1, "survey 3.3.3")


def _parts(route: Route, situation: Situation) -> Iterator[Reason]:
    if route.parts and situation.parts:
        yield Reason("only the map between pretrained parts is trained: the choice for small means", 3, "survey 3.3.4")
    elif route.parts:
        yield Reason("stands on pretrained parts, which are not at hand: they are trained first", -2, "survey 3.3.4")
    if route.family is Family.BACKBONES:
        yield Reason("the language model may say what is not in the picture, and brings its biases", -1, "survey 3.3.4")


def _few_pairs(route: Route, situation: Situation) -> Iterator[Reason]:
    if route.parts or situation.pairs >= MANY_PAIRS:
        return
    if situation.pairs < FEW_PAIRS:
        yield Reason(
            f"{situation.pairs:,} pairs are too few to learn photographs from scratch (Flickr8k: 10.6 % R@10 that way, "
            f"63.0 % on pretrained towers)",
            -2,
            "docs/contrastive.md",
        )
    elif route.family is not Family.EARLY:
        yield Reason(f"{situation.pairs:,} pairs are few for training from scratch", -1, "survey 3.1")


def _enough_pairs(route: Route, situation: Situation) -> Iterator[Reason]:
    if situation.pairs >= MANY_PAIRS and not route.parts and situation.gpus > 1:
        yield Reason(f"{situation.pairs:,} pairs on {situation.gpus} GPUs carry training from scratch", 2, "survey 3.1")


def _matching(route: Route, situation: Situation) -> Iterator[Reason]:
    if Need.MATCHING in situation.needs and route.how(Need.MATCHING) == "native":
        yield Reason("has a head that reads picture and text together", 2, "docs/early_fusion.md, docs/masked.md")


def _regions(route: Route, situation: Situation) -> Iterator[Reason]:
    if route.family is Family.EARLY:
        text, weight = ("the regions that it reads are there", 1) if situation.boxes else ("regions are a grid", -1)
        yield Reason(text, weight, "VisualBERT, arXiv 1908.03557")


RULES: tuple[Rule, ...] = (
    _retrieval, _words_out, _matching, _large_batches, _small_batches, _decoder, _unpaired, _generative_costs, _parts,
    _few_pairs, _enough_pairs, _regions,
)  # fmt: skip
