"""CM3Leon: a decoder over words and pictures that also fills gaps, guided by the text or by contrast with none.

Yu et al. 2023, "Scaling Autoregressive Multi-Modal Models: Pretraining and Instruction Tuning", arXiv 2309.02591. Plain
next-token loss on documents some of whose parts were moved to the end (data/words/causal_masking.py), so that one
causal model writes pictures after texts, texts after pictures, and gaps between both sides. Where the text is not told,
its place holds a sentinel, in training and in sampling. Pictures are drawn under guidance, l_u + a (l_c - l_u), or by
contrastive decoding (CD-K, section 3.2): of what the text makes likely that which it makes likelier than no text does.

Other documents stand before one, found in a memory by a contrastive model (data/neighbours.py): in training by the
whole document, some of its words dropped, in use by what there is of it.

Departures: no second stage of supervised tasks.

B batch, T tokens, N prompts, D width of the memory's vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor

from diptych.capabilities.generator import GREEDY, Prompt
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.task import Task
from diptych.core.visual import Image
from diptych.data.batches.documents import DocumentBatch, DocumentProcessor
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.neighbours import NeighbourRules
from diptych.data.words.tokenizer import Tokenizer, pad_tokens
from diptych.decoding.decoder import Decoder
from diptych.decoding.guidance import Contrasted, guided
from diptych.layers.causal_block import CausalConfig
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.quantizer import QuantizerConfig
from diptych.models.contrastive import _check_fit, clip
from diptych.models.generative._document_module import DocumentModel
from diptych.models.generative._document_predictor import DocumentPredictor
from diptych.models.generative._document_rows import pairs_of, rows_of
from diptych.models.generative._infilling import filled, is_gap
from diptych.models.generative._memory import Memory, RetrievalConfig
from diptych.models.generative._memory_queries import queries_of
from diptych.models.generative._memory_training import documents_before, pictures_and_words, remember_pairs
from diptych.models.generative._moved_parts import MovedParts, span_tokens
from diptych.models.generative._picture_codes import PictureCodes, VqPictures
from diptych.models.generative._prompts import start_of
from diptych.models.generative.chameleon import check_fit
from diptych.models.image_tokenizer import vq
from diptych.objectives.autoregressive import next_token_labels, next_token_loss

VERBS = ("generate_text", "generate_image", "continue_document", "text_likelihood", "image_likelihood")
READS = ()


def _seven_billion() -> CausalConfig:
    return CausalConfig(4096, 32, 32, 16_384, norm="layer", rotary=0.0, gated=False)


_ONE = NeighbourRules(most=1)


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes and choices; the defaults are those of the 7B.

    Attributes:
        words: ids of the text's tokenizer.
        context: the longest document in tokens.
        sentinels: the most parts that are moved.
        spans: how many are moved in the mean (Poisson).
        image_first: share of the pairs whose picture stands before its text.
        drop: share of the pairs whose whole text is moved to the end, which is what guidance goes away from.
        guidance, temperature: of pictures, where a caller says nothing.
        contrast: alpha of contrastive decoding, which takes the place of guidance; 0 for guidance.
        contrast_k: k of it.
        retrieval: of documents that stand before one.
    """

    trunk: CausalConfig = field(default_factory=_seven_billion)
    codes: PictureCodes = field(default_factory=lambda: VqPictures(image_size=256))
    words: int = 56_320
    context: int = 4096
    sentinels: int = 3
    spans: float = 1.0
    image_first: float = 0.5
    drop: float = 0.1
    guidance: float = 3.0
    temperature: float = 1.0
    contrast: float = 0.0
    contrast_k: int = 1
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.image_first <= 1 or not 0 <= self.drop < 1 or not 0 <= self.contrast <= 1:
            raise ConfigError(
                f"image_first {self.image_first}, drop {self.drop} and contrast {self.contrast} are shares"
            )
        if self.sentinels < 1 or min(self.spans, self.guidance) < 0 or self.contrast_k < 1:
            raise ConfigError(
                f"sentinels {self.sentinels} and contrast_k {self.contrast_k} must be at least 1, spans {self.spans} "
                f"and guidance {self.guidance} 0 or more"
            )

    @classmethod
    def tiny(cls, codes: PictureCodes, words: int = 512) -> Self:
        """Four blocks of width 96."""
        trunk = CausalConfig(96, 4, 3, 384, norm="layer", rotary=0.0, gated=False)
        towers = clip.Config.tiny(words, codes.image_size, patch_size=4)
        return cls(
            trunk,
            codes,
            words,
            context=256,
            guidance=1.5,
            temperature=0.5,
            retrieval=RetrievalConfig(2000, towers, _ONE),
        )

    def with_vocabulary(self, size: int) -> Self:
        """The same sizes for another tokenizer."""
        return replace(self, words=size, retrieval=self.retrieval.with_vocabulary(size))


class Cm3LeonTask(Task[ImageTextBatch | DocumentBatch]):
    """Next-token loss of documents, or of pairs as such, with moved parts; the frozen parts stay as they are given."""

    processor: ImageTextProcessor | DocumentProcessor

    def __init__(
        self, config: Config, processor: ImageTextProcessor | DocumentProcessor,
        tokenizer: Mapping[str, Tensor] | None = None, retriever: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            tokenizer, retriever: weights of the frozen parts; None leaves them random.
        """
        super().__init__()
        self.config = config
        self.processor = processor
        self.pairs = pairs_of(processor)
        self.model = Cm3LeonPredictor.build(config, self.pairs)
        if tokenizer is not None:
            self.model.tokenizer.load_state_dict(tokenizer)
        if retriever is not None and self.model.memory is not None:
            self.model.memory.retriever.load_state_dict(retriever)

    def remember(self, batches: Iterable[ImageTextBatch]) -> None:
        """Fills the memory with pairs, up to as many as it has room for; nothing where the model has none."""
        if self.model.memory is not None:
            remember_pairs(self.model, self.model.memory, batches, self.pairs.tokenizer.end_id)

    def losses(self, batch: ImageTextBatch | DocumentBatch, phase: str = "main") -> Losses:
        model = self.model
        tokens_BT, lengths_B = self.documents(batch)
        labels_BT = next_token_labels(tokens_BT, lengths_B)
        loss = next_token_loss(model(tokens_BT), labels_BT, model.logits).cross_entropy
        return {"tokens": Part(loss, int((labels_BT != IGNORED).sum()))}

    def documents(self, batch: ImageTextBatch | DocumentBatch) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] and lengths [B] with parts moved by each sample's seed; of pairs behind other documents."""
        words, config = self.pairs.tokenizer, self.config
        kinds = span_tokens(self.model.layout, words)
        how = MovedParts(config.spans, config.image_first, config.drop)
        if isinstance(batch, DocumentBatch):
            device, whole = batch.pixels_NCHW.device, rows_of(batch, self.model, words.end_id, config.context - 1)
            moved = [how.moved(row, kinds, seed) for row, seed in zip(whole, batch.seeds, strict=True)]
        else:
            device, (pictures, texts) = batch.tokens_BT.device, pictures_and_words(self.model, batch)
            own = zip(self._openings(batch), pictures, texts, batch.seeds, strict=True)
            moved = [
                [*before, *how.document(picture, said, words.end_id, kinds, seed)]
                for before, picture, said, seed in own
            ]
        rows = [[start_of(words), *row][: config.context] for row in moved]
        tokens_BT, lengths_B = pad_tokens(rows, words.pad_id)
        return tokens_BT.to(device), lengths_B.to(device)

    def _openings(self, batch: ImageTextBatch) -> list[list[int]]:
        """What stands before each pair: documents of the memory, if there is one."""
        if self.model.memory is None:
            return [[] for _ in batch.keys]
        return documents_before(self.model.memory, batch, self.config.drop, self.pairs.tokenizer.pad_id)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.model.tokenizer.eval()
        if self.model.memory is not None:
            self.model.memory.eval()
        return self

    def checkpoint_activations(self, on: bool) -> None:
        self.model.trunk.checkpointing = on

    def predictor(self) -> Cm3LeonPredictor:
        return Cm3LeonPredictor(self.config, self.pairs, self.model, "cm3leon")


class Cm3LeonPredictor(DocumentPredictor[Config]):
    """Reads and writes texts, pictures and documents of both, and fills gaps in texts."""

    VERBS = VERBS
    CONFIG = Config

    def guidance(self) -> float:
        return self.config.guidance

    def temperature(self) -> float:
        return self.config.temperature

    def without(self, text: str) -> list[int]:
        """A sentinel: the text comes later, if at all."""
        return [self.module.layout.sentinel(0)]

    def combined(self, told: Decoder, untold: Decoder | None, weight: float) -> Decoder:
        """Guidance, or contrastive decoding where the model is set to it."""
        if self.config.contrast and untold is not None and weight not in (0, 1):
            return Contrasted(told, untold, self.config.contrast, self.config.contrast_k)
        return guided(told, untold, weight)

    def continue_document(self, parts: Prompt, sampling: TextSampling = GREEDY, seed: int = 0) -> list[str | Image]:
        """What comes after the parts; where a part is "[MASK]", what belongs there instead.

        Raises:
            DiptychError: more gaps than the model has sentinels.
            TextTooLong: the parts do not fit the model's context.
        """
        if not any(is_gap(part) for part in parts):
            return super().continue_document(parts, sampling, seed)
        (before,) = self.openings([[part for part in parts if not is_gap(part)]])
        return list(filled(self, parts, [start_of(self.processor.tokenizer), *before], sampling, seed))

    def openings(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The documents that the memory finds for each prompt, by its words and pictures; none for an empty one."""
        memory = self.module.memory
        if memory is None:
            return super().openings(prompts)
        return memory.before(queries_of(prompts, memory, self.processor.tokens, self.pixels))

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> DocumentModel:
        """The module with fresh weights.

        Raises:
            ConfigError: words, pictures or documents do not fit the sizes.
        """
        check_fit(processor, config.codes, config.words, config.context)
        memory, image = None, processor.config.image
        if config.retrieval.documents:
            rows, columns = config.codes.grid()
            longest = processor.config.text.max_length + rows * columns + 2
            check_room(config, longest)
            _check_fit.check_fit(config.retrieval.retriever.vision, config.retrieval.retriever.text, processor)
            memory = Memory(config.retrieval, longest, image.mean, image.std)
        return DocumentModel(config.trunk, config.codes, config.words, config.context, config.sentinels, memory)


def check_room(config: Config, longest: int) -> None:
    """Raises a ConfigError where the documents that are found leave no room for one more."""
    documents = config.retrieval.rules.most + 1
    if documents * longest > config.context:
        raise ConfigError(
            f"{documents} documents of up to {longest} tokens do not fit a context of {config.context}: raise "
            f"model.context or lower model.retrieval.rules.most"
        )


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, Cm3LeonTask]:
    """Guided and contrasted, at their smallest; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    image = ImagePreprocessing(32, mean=vq.MEAN, std=vq.STD, views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(128)), tokenizer)
    small = vq.Config(
        AutoencoderConfig((16,), blocks=1, latent=16, groups=8, attention=False, patch=8), QuantizerConfig(16, 8)
    )
    sizes = Config.tiny(VqPictures(tokenizer=small, image_size=32), tokenizer.vocab_size)
    trunk = CausalConfig(64, 2, 2, 128, norm="layer", rotary=0.0, gated=False)
    towers = clip.Config.tiny(tokenizer.vocab_size, 32)
    towers = replace(towers, text=replace(towers.text, context=128))
    alone = replace(sizes, trunk=trunk, context=256, retrieval=RetrievalConfig(0))
    found = replace(alone, context=512, retrieval=RetrievalConfig(8, towers, NeighbourRules(most=2)))
    return {
        "guided": Cm3LeonTask(alone, processor),
        "contrasted": Cm3LeonTask(replace(alone, contrast=0.1, contrast_k=2), processor),
        "retrieving": Cm3LeonTask(found, processor),
    }
