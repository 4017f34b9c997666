"""A masked language model on captions alone: the text encoder of Imagen where no T5 is at hand.

Devlin et al. 2018, "BERT", arXiv 1810.04805, section 3.1: hidden words are told from those around them. No picture is
looked at, so what it knows of colours and shapes is how captions use their names.

B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from torch import nn

from diptych.capabilities.predictor import Predictor
from diptych.core.config import from_plain, to_plain
from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.task import Task
from diptych.data.batches.image_text import ImageTextBatch, ImageTextConfig, ImageTextProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.data.words.word_masking import mask_words
from diptych.layers.text_transformer import TextConfig, TextTransformer
from diptych.objectives.masked import masked_positions, token_loss


class LanguageTask(Task[ImageTextBatch]):
    """The cross-entropy of hidden words.

    Args:
        ratio: share of a caption's tokens that is hidden.
    """

    processor: ImageTextProcessor

    def __init__(self, config: TextConfig, processor: ImageTextProcessor, ratio: float = 0.3) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.ratio = ratio
        self.text = TextTransformer(config)
        self.head = nn.Linear(config.width, config.vocab_size)

    def losses(self, batch: ImageTextBatch, phase: str = "main") -> Losses:
        words = mask_words(batch.seeds, batch.tokens_BT, batch.lengths_B, self.processor.tokenizer, self.ratio)
        states_BTD = self.text.tokens(words.tokens_BT, batch.lengths_B)
        rows_ND, labels_N = masked_positions(states_BTD, words.labels_BT)
        return {"words": Part(token_loss(self.head(rows_ND), labels_N), int((words.labels_BT != IGNORED).sum()))}

    def predictor(self) -> LanguagePredictor:
        return LanguagePredictor(self.config, self.processor, self.text)


class LanguagePredictor(Predictor):
    """The encoder alone, which answers nothing by itself: what checkpoints of its stage hold."""

    VERBS = ()

    def __init__(self, config: TextConfig, processor: ImageTextProcessor, module: TextTransformer) -> None:
        self.config = config
        self.processor = processor
        self.module: TextTransformer = module
        self.name = "language"

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(TextConfig, description["model"])
        settings = from_plain(ImageTextConfig, description["processor"])
        processor = ImageTextProcessor(settings, Tokenizer.read(folder / "tokenizer.json"))
        return cls(config, processor, TextTransformer(config))
