"""A small language model on the texts of conversations alone, for recipes that are given no pretrained one.

B conversations, T tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from diptych.capabilities.predictor import Predictor
from diptych.core.config import from_plain, to_plain
from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.task import Task
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.pretrained_backbone._llama import Llama, LlamaConfig
from diptych.models.pretrained_backbone._templates import read_saved, write_saved
from diptych.objectives.autoregressive import next_token_labels, next_token_loss


class TextTask(Task[ConversationBatch]):
    """Next-token loss of every word; no picture is looked at."""

    processor: ConversationProcessor

    def __init__(self, config: LlamaConfig, processor: ConversationProcessor) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.model = Llama(config)

    def losses(self, batch: ConversationBatch, phase: str = "main") -> Losses:
        labels_BT = next_token_labels(batch.tokens_BT, batch.lengths_B)
        states_BTD = self.model(self.model.embed(batch.tokens_BT), batch.lengths_B)
        loss = next_token_loss(states_BTD, labels_BT, self.model.logits).cross_entropy
        return {"words": Part(loss, int((labels_BT != IGNORED).sum()))}

    def checkpoint_activations(self, on: bool) -> None:
        self.model.trunk.checkpointing = on

    def predictor(self) -> TextPredictor:
        return TextPredictor(self.config, self.processor, self.model)


class TextPredictor(Predictor):
    """The model alone, which answers nothing by itself: what checkpoints of its stage hold."""

    VERBS = ()

    def __init__(self, config: LlamaConfig, processor: ConversationProcessor, module: Llama) -> None:
        self.config = config
        self.processor = processor
        self.module: Llama = module
        self.name = "words"

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")
        write_saved(self.processor.template, folder)

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(LlamaConfig, description["model"])
        settings = from_plain(ConversationConfig, description["processor"])
        processor = ConversationProcessor(settings, Tokenizer.read(folder / "tokenizer.json"), read_saved(folder))
        return cls(config, processor, Llama(config))
