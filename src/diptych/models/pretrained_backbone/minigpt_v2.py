"""MiniGPT-v2: many tasks told apart by an identifier, places as text, four features side by side, LoRA.

Chen et al. 2023, "MiniGPT-v2", arXiv 2310.09478. Four features of a frozen tower that follow one another in raster
order become one vector by one linear map; LoRA trains the language model. What is asked begins with its task, "[vqa]",
"[caption]", "[refer]", "[identify]" or "[grounding]" (data/derived/task_turns.py), and boxes are text in hundredths of
the picture's sides (data/words/box_text.py), so a picture is squashed to the tower's square, never cut.

Departures from the paper: LoRA has no dropout; corners are rounded to the nearest hundredth, the released code cuts
them off; on our own trunk LoRA's A is shared by keys and values, which are one matrix, where the paper leaves the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.adapters.language import LanguageAdapterConfig
from diptych.capabilities.derive import same_length
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.visual import Box, as_image
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.derived.task_turns import TASKS, asked
from diptych.data.pixels.decode import decode
from diptych.data.words.box_text import read_boxes
from diptych.data.words.chat import IMAGE, PlainTemplate
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefix_model import BridgeConfig, PrefixConfig, PrefixPredictor, PrefixTask
from diptych.models.pretrained_backbone._prefixed import Prefixed, Trained
from diptych.models.pretrained_backbone._tiny_parts import tiny_parts

VERBS = ("generate_text", "text_likelihood", "answer", "locate")
READS = ()

_PLACE = TextSampling(32)
"""A box, where every digit is a token."""


@dataclass(frozen=True)
class Config(PrefixConfig):
    """The defaults are the paper's, on a ViT-g at 448 pixels."""

    connector: ConnectorConfig = field(default_factory=lambda: ConnectorConfig("linear", adjacent=4))
    adapter: LanguageAdapterConfig = field(default_factory=lambda: LanguageAdapterConfig("lora", 64, 16.0))


def template(end: str) -> PlainTemplate:
    """ "[INST] <Img>...</Img> [vqa] what is this? [/INST] a cat", and the text of the tokenizer's end token."""
    return PlainTemplate("", "[INST] ", "[/INST]", " ", end, f"<Img>{IMAGE}</Img> ")


class MiniGptV2Predictor(PrefixPredictor[Config]):
    """Talks about pictures, and points.

    `generate_text` takes prompts as they are, identifier and all; `answer` and `locate` set their own.
    """

    VERBS = VERBS
    CONFIG = Config

    @classmethod
    def build(
        cls, config: BridgeConfig, processor: ConversationProcessor, tower: PatchFeatures, language: LanguageModel
    ) -> Prefixed:
        """As of any, where boxes mean what they say: the whole picture is seen, and nothing moves it.

        Raises:
            ConfigError: pictures are cut or moved.
        """
        image = processor.config.image
        if image.resize != "squash" or image.views is not None:
            raise ConfigError(
                "boxes are shares of the whole picture, and these settings cut or move it: set image.resize to squash "
                "and image.views to none"
            )
        return super().build(config, processor, tower, language)

    def answer(
        self, visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """What the model says to each question, behind "[vqa]" where it names no other task; or the likeliest choice.

        Raises:
            DiptychError: not one question, or one row of choices, a visual.
        """
        return super().answer(visuals, [_with_task(question) for question in questions], choices)

    def locate(self, visuals: Sequence[Any], phrases: Sequence[str]) -> list[Box | None]:
        """The first valid box in what the model says to "[refer] phrase"; None where there is none.

        Raises:
            DiptychError: not one phrase a visual.
            TextTooLong: a phrase does not fit.
            BadSample: a picture cannot be decoded.
        """
        same_length(visuals, phrases, Verb.LOCATE)
        images = [as_image(visual) for visual in visuals]
        prompts = [[image, asked("refer", phrase)] for image, phrase in zip(images, phrases, strict=True)]
        said = self.generate_text(prompts, _PLACE)
        found: list[Box | None] = []
        for image, phrase, text in zip(images, phrases, said, strict=True):
            height, width = decode(image, image.name).shape[:2]
            boxes = read_boxes(text)
            found.append(boxes[0].in_pixels(width, height, phrase) if boxes else None)
        return found


def _with_task(question: str) -> str:
    named = any(question.startswith(f"[{task}]") for task in TASKS)
    return question if named else asked("vqa", question)


class MiniGptV2Task(PrefixTask[Config]):
    """Every round: the connector and LoRA, on what the source asks."""

    PREDICTOR = MiniGptV2Predictor
    NAME = "minigpt_v2"


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, MiniGptV2Task]:
    """At its smallest, on random parts of which the tower is trained too."""
    processor, tower, language = tiny_parts(samples, 4, template("<end>"))
    image = replace(processor.config.image, resize="squash")
    processor = ConversationProcessor(
        replace(processor.config, image=image), processor.tokenizer, processor.template
    )  # fmt: skip
    config = Config(layer=-1, adapter=LanguageAdapterConfig("lora", 32, 64.0))
    return {"lora": MiniGptV2Task(config, processor, tower, language, Trained(tower=True, language=True))}
