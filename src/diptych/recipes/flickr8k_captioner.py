"""A captioner of a few thousand photographs from a frozen vision tower and a small language model, in minutes.

LLaVA's form: features of the tower, mapped, stand before the words. The tower looks at each picture once
(data/cached/feature_cache.py), and conversations share rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.data.derived.without import WithoutTurns
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.words.chat import PlainTemplate, Template
from diptych.data.words.tokenizer import Tokenizer
from diptych.evaluation.runner import evaluate
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import llava
from diptych.recipes._on_llava import OnLlava
from diptych.recipes._pairs import report_on, split_data
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train

_CAPTIONING = ("cider", "cider_nearest_picture", "cider_consensus_of_30", "cider_constant_caption", "bleu_4")
_MEASURED_ON = 200
"""Pictures of the selection data."""


@dataclass(frozen=True, kw_only=True)
class CaptionerRun(OnLlava):
    """Trains on captions; reads the val split once, at the end, with captions of like pictures beside its own.

    Attributes:
        image_tower, language_model: `transformers` folders.
        held_out: how many training samples to select on.
        beams: of the captions in the report.
    """

    image_tower: str = ""
    language_model: str = ""
    held_out: int = 500
    beams: int = 3

    def stages(self) -> Sequence[Stage]:
        for name, folder in (("image_tower", self.image_tower), ("language_model", self.language_model)):
            if not folder:
                raise ConfigError(f"name a transformers folder with --{name} PATH")
            if not Path(folder).is_dir():
                raise ConfigError(f"--{name}: no folder at {folder}")
        train = Train(
            "train",
            source=lambda context: WithoutTurns(self.training_data()),
            task=lambda context: self.llava_task(context, self.trained),
            evaluate=self.evaluator,
            best="cider",
        )
        captioning = {"neighbours": self.data, "beams": self.beams}
        return (train, report_on(self.data, "val", {"captioning": _CAPTIONING}, {"captioning": captioning}))

    def training_data(self) -> Source:
        """What is trained on."""
        return split_data(self.data, self.held_out)[0]

    def evaluator(self, context: Context) -> Evaluate:
        """CIDEr-D of greedy captions of pictures that are held out."""
        source = split_data(self.data, self.held_out)[1]

        def measure(model: Predictor) -> dict[str, float]:
            settings = {"captioning": {"baseline": False}}
            (result,) = evaluate(model, ["captioning"], source, limit=_MEASURED_ON, settings=settings)
            return {"cider": result.metrics["cider"].value}

        return measure

    def tower_folder(self, context: Context) -> Path:
        return Path(self.image_tower)

    def language_folder(self, context: Context) -> Path:
        return Path(self.language_model)

    def template(self, language: Path, words: Tokenizer) -> Template:
        """The start token, the picture, the caption, the end token: as a language model reads any text."""
        start = "" if words.start_id is None else str(words.backend.id_to_token(words.start_id))
        return PlainTemplate(user=start, assistant="", between="", end=str(words.backend.id_to_token(words.end_id)))


def flickr8k_captioner() -> CaptionerRun:
    """Pictures of 160 pixels, whose 25 cells become 4 vectors; for MobileNet V1 and a Llama of 0.26 M parameters."""
    return CaptionerRun(
        name="flickr8k_captioner",
        data="",
        image=ImagePreprocessing(160, "squash", views=None),
        model=llava.Config(ConnectorConfig("average", queries=4), layer=-1),
        max_length=128,
        packed=128,
        cached=True,
        mirrored=True,
        batch_size=32,
        budget=Budget(samples=40_000),
        optimizer=AdamWConfig(lr=3e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=625,
    )
