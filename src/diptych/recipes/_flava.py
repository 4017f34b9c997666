"""What FLAVA recipes share: a tokenizer, a codebook trained on the pictures, then FLAVA, in one or two stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.data.batches.image_text import ImageTextConfig, TextPreprocessing
from diptych.data.batches.mixed_pairs import Masks, MixedPairsProcessor
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.batches.pictures import PictureProcessor
from diptych.data.batches.row_kinds import kinds_in
from diptych.data.derived.mixture import Mixture
from diptych.data.derived.without import WithoutCaptions, WithoutPictures
from diptych.data.open import open_source
from diptych.evaluation.runner import evaluate
from diptych.layers.feature_map import BackboneMap
from diptych.models.image_tokenizer import vq
from diptych.models.masked import flava
from diptych.models.masked._flava_codes import VqCodes
from diptych.models.masked._flava_terms import Weights, check_kinds
from diptych.recipes._alignment import Alignment
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._pairs import SELECTED_BY, PairsRun, all_captions, retrieval_on
from diptych.training.stages import Context, Evaluate, Stage, Train, fitted_tokenizer

_CAPTIONS_OF = 4000
"""Samples whose captions are exchanged for one another's."""
_MEASURED_ON = 200
"""Samples of the selection data that matching and words are measured on."""


@dataclass(frozen=True)
class CodebookStage(EarlierStage):
    """How the codebook is trained, on the pictures of the run."""


@dataclass(frozen=True, kw_only=True)
class FlavaRun(PairsRun):
    """FLAVA from scratch.

    Attributes:
        weights: of the six terms.
        masks: what is hidden, and which shares of the pairs are mismatched or taken as pictures and texts alone.
        codebook: how the codes are learned.
        alignment: a first stage of the contrastive term alone, from whose weights the next goes on.
        pictures, texts: data whose pictures, or texts, are added to the pairs; "" for none.
        shares: of pairs, added pictures and added texts in what is trained on; those of what is not added do not count.
    """

    model: flava.Config = field(default_factory=flava.Config.tiny)
    weights: Weights = field(default_factory=Weights)
    masks: Masks = field(default_factory=Masks)
    codebook: CodebookStage = field(default_factory=CodebookStage)
    alignment: Alignment = field(default_factory=Alignment)
    pictures: str = ""
    texts: str = ""
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model.codes, VqCodes):
            raise ConfigError("this recipe trains its own codebook: leave model.codes a tokenizer of ours")

    def pairs(self) -> Source:
        """The pictures with captions that are trained on."""
        return super().training_data()

    def training_data(self) -> Source:
        """Pairs, and pictures and texts alone where they are added."""
        sides = [(self.pairs(), self.shares[0])]
        if self.pictures:
            sides.append((WithoutCaptions(open_source(self.pictures, "train")), self.shares[1]))
        if self.texts:
            sides.append((WithoutPictures(open_source(self.texts, "train")), self.shares[2]))
        if len(sides) == 1:
            return sides[0][0]
        return Mixture([source for source, _ in sides], [share for _, share in sides], seed=self.seed)

    def stages(self) -> Sequence[Stage]:
        stages: list[Stage] = [self.tokenizer_stage(mask=True)]
        if self.weights.used() & {"mim", "mmm_image"}:
            stages.append(self._codes())
        if self.alignment.samples:
            stages.append(self._align())
        return (*stages, self._train())

    def evaluator(self, context: Context) -> Evaluate:
        """Recalls, how often a picture's own caption scores above another's, and words found with either picture."""
        source = self.selection_data()
        recalls = retrieval_on(source)

        def measure(model: Predictor) -> dict[str, float]:
            matching, words = evaluate(model, ["matching", "masked_words"], source, limit=_MEASURED_ON)
            found = {"matching_accuracy": matching.metrics["accuracy"].value}
            shown = {f"masked_{name}": metric.value for name, metric in words.metrics.items() if metric.chance}
            gains = {f"masked_{name}": m.value for name, m in words.metrics.items() if name.endswith("_gain")}
            return {**recalls(model), **found, **shown, **gains}

        return measure

    def _codes(self) -> Train:
        codes = self._vq_codes()
        image = replace(self.image, size=codes.image_size, mean=codes.mean, std=codes.std)
        return Train(
            "codes",
            source=lambda context: self._with_pictures(),
            task=lambda context: vq.VqTask(codes.tokenizer, PictureProcessor(image)),
            settings=self.codebook.applied_to(self),
        )

    def _with_pictures(self) -> Source:
        """What the codebook is trained on: the pairs' pictures, and those that are added."""
        pairs = self.pairs()
        if not self.pictures:
            return pairs
        added = WithoutCaptions(open_source(self.pictures, "train"))
        return Mixture([pairs, added], self.shares[:2], seed=self.seed)

    def _vq_codes(self) -> VqCodes:
        assert isinstance(self.model.codes, VqCodes)
        return self.model.codes

    def _align(self) -> Train:
        def task(context: Context) -> flava.FlavaTask:
            only = Weights(mim=0, mlm=0, contrastive=1, mmm_image=0, mmm_text=0, itm=0)
            return self._task(context, only, replace(self.masks, mismatched=0.0, alone=(0.0, 0.0)))

        return Train(
            "align",
            source=lambda context: self.pairs(),
            task=task,
            settings=self.alignment.applied_to(self),
        )

    def _train(self) -> Train:
        def task(context: Context) -> flava.FlavaTask:
            task = self._task(context, self.weights, self.masks)
            if self.alignment.samples:
                task.load_state_dict(context.trained("align"))
            return task

        source = self.training_data()
        check_kinds(self.weights, kinds_in(source, self.masks))
        return Train("train", lambda context: source, task, self.evaluator, SELECTED_BY)

    def _task(self, context: Context, weights: Weights, masks: Masks) -> flava.FlavaTask:
        return self.task_on(context, weights, masks)

    def task_on(
        self, context: Context, weights: Weights, masks: Masks, backbone: BackboneMap | None = None
    ) -> flava.FlavaTask:
        """The task for the fitted tokenizer and the trained codebook, on a pretrained backbone where one is given."""
        tokenizer = fitted_tokenizer(context)
        settings = ImageTextConfig(self.image, TextPreprocessing(self.context))
        others = None
        if masks.mismatched:
            others = OtherCaptions(list(all_captions(self.pairs(), _CAPTIONS_OF)))
        sizes = self.model.with_vocabulary(tokenizer.vocab_size)
        processor = MixedPairsProcessor(settings, tokenizer, sizes.vision.grid, masks, others)
        return flava.FlavaTask(sizes, processor, weights, self._trained_codebook(context), backbone)

    def _trained_codebook(self, context: Context) -> dict[str, Tensor] | None:
        """The weights that stage "codes" ended with; None where no term needs codes."""
        if not self.weights.used() & {"mim", "mmm_image"}:
            return None
        trained = context.trained("codes")
        return {name.removeprefix("model."): rows for name, rows in trained.items() if name.startswith("model.")}
