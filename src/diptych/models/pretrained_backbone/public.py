"""Any public vision-language model, as it is: `transformers` runs it, its own processor and chat template read for it.

A folder or hub id of an image-text-to-text model meets every benchmark by verbs. What it is told and what it is shown
is written by its own template and tokenised by its own processor; its tokens are drawn here, so that a seed means the
same as for any other model. It may be tuned as well: the tower as it is, the loss on what the assistant says.

`LlavaForConditionalGeneration` folders are read by llava.py, on our own parts, unless this file's `weights_from` is
asked to.

Where it is known how a model writes boxes (_public_boxes.py) it has the verb `locate` as well, which others refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from torch import nn

from diptych.capabilities.load import folder_of
from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.sample import Sample
from diptych.core.task import Task
from diptych.layers.backbone_folder import transformers_for
from diptych.models.pretrained_backbone._public_files import Public, read_public
from diptych.models.pretrained_backbone._public_predictor import (
    Config,
    PublicPredictor,
    answer_chances,
    predictor_of,
    reader_of,
)
from diptych.models.pretrained_backbone._public_processor import PublicProcessor
from diptych.models.pretrained_backbone._public_rows import PublicBatch, joined
from diptych.models.pretrained_backbone._public_tiny import tiny_llava

VERBS = ("generate_text", "text_likelihood", "answer")
READS = (
    "Idefics2ForConditionalGeneration",
    "Idefics3ForConditionalGeneration",
    "LlavaNextForConditionalGeneration",
    "PaliGemmaForConditionalGeneration",
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
)


class PublicTask(Task[PublicBatch]):
    """Next-token loss of what the assistant says. Towers stay as they are; all else is trained."""

    processor: PublicProcessor

    def __init__(self, config: Config, public: Public, name: str = "public") -> None:
        super().__init__()
        self.config, self.public, self.name = config, public, name
        self.model = public.module
        for tower in towers(self.model):
            tower.requires_grad_(False)
        self.processor = PublicProcessor(reader_of(public, config.max_length, name))

    def losses(self, batch: PublicBatch, phase: str = "main") -> Losses:
        chances_B, counts_B = answer_chances(self.model, joined(batch.rows, self.processor.reader.pad_id))
        return {"answers": Part(-chances_B.sum(), int(counts_B.sum()))}

    def counts(self, batch: PublicBatch, phase: str = "main") -> dict[str, float]:
        return {"answers": sum(int((row.labels_1T[:, 1:] != IGNORED).sum()) for row in batch.rows)}

    def predictor(self) -> PublicPredictor:
        return predictor_of(self.config, self.public, self.name)

    def train(self, mode: bool = True) -> Self:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        for tower in towers(self.model):
            tower.eval()
        return self


def towers(module: nn.Module) -> list[nn.Module]:
    """The pretrained parts of a model that are not its language model."""
    model: Any = module
    pretrained = transformers_for("a public model").PreTrainedModel
    parts = [part for part in model.base_model.children() if isinstance(part, pretrained)]
    return [part for part in parts if part is not model.get_decoder()]


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, PublicTask]:
    """A random LLaVA at its smallest, with a tokenizer that is fitted to the samples."""
    return {"llava": PublicTask(Config(), tiny_llava(samples))}


def weights_from(reference: str | Path) -> PublicPredictor:
    """A `transformers` image-text-to-text folder or hub id.

    Raises:
        CheckpointError: the folder is no such model, a truncated one, or lacks weights.
        ConfigError: it has no chat template, or a tokenizer that cannot be used.
    """
    folder = folder_of(reference)
    return predictor_of(Config(), read_public(folder), folder.name)
