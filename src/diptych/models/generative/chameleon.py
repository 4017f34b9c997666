"""Chameleon: words and pictures as tokens of one vocabulary, read and written by one transformer.

Chameleon Team 2024, "Chameleon: Mixed-Modal Early-Fusion Foundation Models", arXiv 2405.09818. A decoder of Llama's
kind whose queries and keys are normalised (QK-norm), in the 34B also with its norms after the sublayers; next-token
loss over all tokens and 1e-5 log^2 Z of the softmax (z-loss). Half of the pairs show the picture first, half the text.
What is written keeps to a grammar: a picture is its begin token, as many codes as it has, its end token.

Departures: no dropout; a share of the pairs is trained without text, so that pictures can be guided: l_u + w (l_c -
l_u).

B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from torch import Tensor

from diptych.capabilities.load import folder_of
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.sample import Sample
from diptych.core.seeding import unit_interval
from diptych.core.task import Task
from diptych.data.batches.documents import DocumentBatch, DocumentProcessor
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer, pad_tokens
from diptych.layers.causal_block import CausalConfig
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.quantizer import QuantizerConfig
from diptych.models.generative._chameleon_export import write_folder
from diptych.models.generative._chameleon_folder import PublicChameleon, read_folder
from diptych.models.generative._document_layout import Places
from diptych.models.generative._document_module import DocumentModel
from diptych.models.generative._document_predictor import DocumentPredictor
from diptych.models.generative._document_rows import pairs_of, rows_of
from diptych.models.generative._picture_codes import PictureCodes, VqPictures, codes_of
from diptych.models.generative._prompts import start_of
from diptych.models.image_tokenizer import vq
from diptych.objectives.autoregressive import next_token_labels, next_token_loss

VERBS = ("generate_text", "generate_image", "continue_document", "text_likelihood", "image_likelihood")
READS = ("ChameleonForConditionalGeneration",)


def _seven_billion() -> CausalConfig:
    return CausalConfig(4096, 32, 32, 11008, head_norm=True)


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes and choices; the defaults are those of the 7B.

    Attributes:
        words: ids of the text's tokenizer.
        context: the longest document in tokens.
        z_loss: weight of log^2 Z.
        image_first: share of the pairs whose picture stands before its text.
        drop: share of the pairs that are trained without text.
        guidance, temperature: of pictures, where a caller says nothing.
        places: where codes lie in a vocabulary made elsewhere; None for after the words.
    """

    trunk: CausalConfig = field(default_factory=_seven_billion)
    codes: PictureCodes = field(default_factory=lambda: VqPictures(image_size=512))
    words: int = 57_344
    context: int = 4096
    z_loss: float = 1e-5
    image_first: float = 0.5
    drop: float = 0.1
    guidance: float = 1.2
    temperature: float = 1.0
    places: Places | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.image_first <= 1 or not 0 <= self.drop < 1 or min(self.z_loss, self.guidance) < 0:
            raise ConfigError(
                f"image_first {self.image_first} and drop {self.drop} are shares, z_loss {self.z_loss} and guidance "
                f"{self.guidance} are 0 or more"
            )

    @classmethod
    def tiny(cls, codes: PictureCodes, words: int = 512) -> Self:
        """Four blocks of width 96."""
        trunk = CausalConfig(96, 4, 3, 256, head_norm=True)
        return cls(trunk, codes, words, context=128, guidance=1.5, temperature=0.5)

    def with_vocabulary(self, size: int) -> Self:
        """The same sizes for another tokenizer."""
        return replace(self, words=size)


class ChameleonTask(Task[ImageTextBatch | DocumentBatch]):
    """Next-token loss and z-loss of documents, or of pairs as such; the picture's tokenizer stays as it is given."""

    processor: ImageTextProcessor | DocumentProcessor

    def __init__(
        self, config: Config, processor: ImageTextProcessor | DocumentProcessor,
        tokenizer: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            tokenizer: weights of the picture's tokenizer; None leaves them random.
        """
        super().__init__()
        self.config = config
        self.processor = processor
        self.pairs = pairs_of(processor)
        self.model = ChameleonPredictor.build(config, self.pairs)
        if tokenizer is not None:
            self.model.tokenizer.load_state_dict(tokenizer)

    def losses(self, batch: ImageTextBatch | DocumentBatch, phase: str = "main") -> Losses:
        model = self.model
        tokens_BT, lengths_B = self.documents(batch)
        labels_BT = next_token_labels(tokens_BT, lengths_B)
        found = next_token_loss(model(tokens_BT), labels_BT, model.logits, with_z=self.config.z_loss > 0)
        asked = int((labels_BT != IGNORED).sum())
        parts = {"tokens": Part(found.cross_entropy, asked)}
        return parts | ({"z": Part(found.z, asked, self.config.z_loss)} if self.config.z_loss else {})

    def documents(self, batch: ImageTextBatch | DocumentBatch) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] and lengths [B]; of pairs picture first or text first, by each sample's seed."""
        words = self.pairs.tokenizer
        if isinstance(batch, DocumentBatch):
            found = rows_of(batch, self.model, words.end_id, self.config.context - 1)
            rows, device = [[start_of(words), *row] for row in found], batch.pixels_NCHW.device
        else:
            rows, device = self._pairs(batch), batch.tokens_BT.device
        tokens_BT, lengths_B = pad_tokens(rows, words.pad_id)
        return tokens_BT.to(device), lengths_B.to(device)

    def _pairs(self, batch: ImageTextBatch) -> list[list[int]]:
        layout, words = self.model.layout, self.pairs.tokenizer
        codes = codes_of(self.model.tokenizer, batch.pixels_BCHW).tolist()
        captions = [
            row[:length] for row, length in zip(batch.tokens_BT.tolist(), batch.lengths_B.tolist(), strict=True)
        ]
        rows = []
        for code, caption, seed in zip(codes, captions, batch.seeds, strict=True):
            said, picture = caption[1:-1], layout.picture(code)
            if unit_interval("no text", seed) < self.config.drop:
                said = []
            first = unit_interval("picture first", seed) < self.config.image_first
            rows.append([start_of(words), *(picture + said if first else said + picture), words.end_id])
        return rows

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.model.tokenizer.eval()
        return self

    def checkpoint_activations(self, on: bool) -> None:
        self.model.trunk.checkpointing = on

    def predictor(self) -> ChameleonPredictor:
        return ChameleonPredictor(self.config, self.pairs, self.model, "chameleon")


class ChameleonPredictor(DocumentPredictor[Config]):
    """Reads and writes texts, pictures and documents of both."""

    VERBS = VERBS
    CONFIG = Config

    def guidance(self) -> float:
        return self.config.guidance

    def temperature(self) -> float:
        return self.config.temperature

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> DocumentModel:
        """The module with fresh weights.

        Raises:
            ConfigError: words, pictures or documents do not fit the sizes.
        """
        check_fit(processor, config.codes, config.words, config.context)
        return DocumentModel(config.trunk, config.codes, config.words, config.context, places=config.places)


def check_fit(processor: ImageTextProcessor, codes: PictureCodes, words: int, context: int) -> None:
    """Raises a ConfigError where words, pictures or pairs do not fit a model's sizes."""
    settings, (rows, columns) = processor.config, codes.grid()
    start_of(processor.tokenizer)
    if processor.tokenizer.vocab_size > words:
        raise ConfigError(f"the tokenizer has {processor.tokenizer.vocab_size} tokens, the model {words}")
    if settings.image.size != codes.image_size:
        raise ConfigError(f"pictures of {settings.image.size} pixels do not fit codes of those of {codes.image_size}")
    longest = settings.text.max_length + rows * columns + 2
    if longest > context:
        raise ConfigError(f"a pair of up to {longest} tokens does not fit documents of {context}: raise model.context")


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, ChameleonTask]:
    """With norms before and after the sublayers, at their smallest; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    image = ImagePreprocessing(32, mean=vq.MEAN, std=vq.STD, views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(128)), tokenizer)
    small = vq.Config(
        AutoencoderConfig((16,), blocks=1, latent=16, groups=8, attention=False, patch=8), QuantizerConfig(16, 8)
    )
    sizes = Config.tiny(VqPictures(tokenizer=small, image_size=32), tokenizer.vocab_size)
    sizes = replace(sizes, trunk=CausalConfig(64, 2, 2, 128, head_norm=True), context=256)
    after = replace(sizes, trunk=replace(sizes.trunk, norm_after=True))
    return {"before": ChameleonTask(sizes, processor), "after": ChameleonTask(after, processor)}


def weights_from(reference: str | Path) -> ChameleonPredictor:
    """Weights of a transformers ChameleonForConditionalGeneration folder or hub id.

    transformers has no decoder of pictures; where a folder `vqgan` lies in it, with the encoder and the decoder that
    were released, pictures can be made too.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder's architecture has a part that is not here.
    """
    public: PublicChameleon = read_folder(folder_of(reference))
    config = Config(public.trunk, public.codes, public.words, public.context, places=public.places)
    module = ChameleonPredictor.build(config, public.processor)
    public.fill(module)
    return ChameleonPredictor(config, public.processor, module, public.path.name)


def export_to(predictor: ChameleonPredictor, folder: Path) -> None:
    """Writes a `transformers` ChameleonForConditionalGeneration folder; with a decoder of pictures in `vqgan`.

    Raises:
        ConfigError: the model has a part that ChameleonForConditionalGeneration does not.
    """
    config = predictor.config
    write_folder(predictor.module, config.trunk, config.codes, predictor.processor, predictor.name, folder)
