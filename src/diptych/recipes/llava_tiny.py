"""LLaVA in two rounds: the connector on captions, then the connector and the language model on conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.derived.mixture import Mixture
from diptych.data.derived.unprompted import UnpromptedCaptions, UnpromptedDocuments
from diptych.data.derived.without import WithoutTurns
from diptych.data.open import open_source
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._answer_rates import answered
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._on_llava import OnLlava
from diptych.recipes._own_parts import OwnParts
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train

_ASKED = 200
"""Questions of the selection data."""
_PAGES = 4
"""The most pictures of a document of scenes."""


@dataclass(frozen=True)
class Mix:
    """Shares of what the first round is trained on (MM1, arXiv 2403.09611, section 3.3).

    Attributes:
        captions: pictures with their captions.
        documents: texts and pictures that follow one another; only the built-in scenes have some beside their captions.
        texts: captions without their pictures.
    """

    captions: float = 1.0
    documents: float = 0.0
    texts: float = 0.0

    def __post_init__(self) -> None:
        if min(self.captions, self.documents, self.texts) < 0 or not self.captions + self.documents + self.texts:
            raise ConfigError(f"a mix has shares, none below 0 and not all 0: {self}")


@dataclass(frozen=True, kw_only=True)
class LlavaRun(OwnParts, OnLlava):
    """A tower and a language model, given or trained first, and what joins them; `trained` is of the second round.

    Attributes:
        captions: how the first round is trained.
        first: what is trained in it.
        first_mix: what it is trained on.

    Raises:
        ConfigError: documents of other data than scenes or of more pictures than `pictures`, or texts that would train
            nothing.
    """

    captions: EarlierStage = field(default_factory=lambda: EarlierStage(400, 32, 2e-3))
    first: Trained = field(default_factory=Trained)
    first_mix: Mix = field(default_factory=Mix)
    prompt: str = "What does the picture show?"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_mix.documents and self.data.partition("?")[0] != "scenes":
            raise ConfigError(f"first_mix.documents: {self.data} has none beside its captions, only scenes do")
        if self.first_mix.documents and self.pictures < _PAGES:
            raise ConfigError(f"first_mix.documents: {_PAGES} pictures must fit, and pictures is {self.pictures}")
        if self.first_mix.texts and not self.first.language:
            raise ConfigError("first_mix.texts: only the language model learns of them: set first.language")

    def first_data(self) -> Source:
        """What the first round is trained on."""
        captions = WithoutTurns(self.training_data())
        shares: list[tuple[Callable[[], Source], float]] = [
            (lambda: captions, self.first_mix.captions),
            (lambda: UnpromptedDocuments(open_source(self._documents(), "train")), self.first_mix.documents),
            (lambda: UnpromptedCaptions(captions), self.first_mix.texts),
        ]
        used = [(source(), share) for source, share in shares if share]
        if len(used) == 1:
            return used[0][0]
        return Mixture([source for source, _ in used], [share for _, share in used], len(captions), self.seed)

    def _documents(self) -> str:
        return f"{self.data}{'&' if '?' in self.data else '?'}kind=documents"

    def stages(self) -> Sequence[Stage]:
        first = Train(
            "captions",
            source=lambda context: self.first_data(),
            task=lambda context: self.llava_task(context, self.first),
            settings=self.captions.applied_to(self),
        )
        second = Train(
            "train",
            source=lambda context: self.training_data(),
            task=self._second,
            evaluate=self.evaluator,
        )
        return (*self.own_stages(), first, second)

    def evaluator(self, context: Context) -> Evaluate:
        """The share of held-out questions that are answered word for word."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            return {"answered": answered(model, source, _ASKED)}

        return measure

    def _second(self, context: Context) -> llava.LlavaTask:
        task = self.llava_task(context, self.trained)
        task.load_state_dict(context.trained("captions"))
        return task


def llava_tiny() -> LlavaRun:
    """Scenes of 48 pixels as 36 features, through an MLP."""
    return LlavaRun(
        name="llava_tiny",
        data="scenes?size=48&objects=2&words=0",
        image=ImagePreprocessing(48, views=None),
        model=llava.Config(ConnectorConfig("mlp"), layer=-1),
        context=64,
        vocab_size=512,
        threads=1,
        batch_size=32,
        budget=Budget(steps=800),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=50),
        log_every=50,
        evaluate_every=400,
    )
