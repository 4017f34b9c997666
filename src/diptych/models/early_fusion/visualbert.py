"""VisualBERT: one transformer over words and regions.

Li et al. 2019, "VisualBERT: A Simple and Performant Baseline for Vision and Language", arXiv 1908.03557. A BERT reads
[CLS] text [SEP] and, beside it, one vector a region of the picture; self-attention lets every word see every region and
back, so there is no second tower and no vector of a picture alone. It is trained to fill in masked words, with all
regions in view, and to tell from [CLS] whether the text is the picture's own.

Departures. The paper's sentence-image prediction gives two captions, one always true and the other of another picture
with probability 0.5; here it is one caption, replaced with probability 0.5, since that is the question that matching a
text with a picture asks. Words are masked in both kinds of pairs, so that a mask tells nothing about the kind, and are
predicted in the pairs that match. No dropout. Region features may come from a detector (given), or from a map that is
trained along (a small convolutional network) or pretrained, pooled with RoIAlign; the released model has given ones.
`box_geometry` adds a linear map of (centre, size, area) to a region's embedding, which the paper does not have.

B batch, N pairs, T tokens, R regions, M masked places, F region width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.capabilities.derive import same_length
from diptych.capabilities.load import folder_of
from diptych.capabilities.verbs import Verb
from diptych.core.config import from_plain, to_plain
from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.sample import Sample
from diptych.core.task import Task
from diptych.data.batches.image_text import TextPreprocessing
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.batches.region_batch import RegionTextBatch
from diptych.data.batches.region_text import RegionTextConfig, RegionTextProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.pixels.region_detector import FolderDetector
from diptych.data.pixels.regions import RegionConfig
from diptych.data.words.tokenizer import Tokenizer
from diptych.data.words.word_masking import MaskedWords, mask_words
from diptych.layers.backbone_folder import backbone_from_config
from diptych.layers.bert import BertConfig
from diptych.layers.feature_map import BackboneMap, BackboneMapConfig, ConvMapConfig
from diptych.models._check_texts import check_texts
from diptych.models._fill_text import Places, fill_text
from diptych.models._model_predictor import ModelPredictor
from diptych.models.early_fusion import _visualbert_public as public
from diptych.models.early_fusion._region_inputs import seen_of
from diptych.models.early_fusion._visualbert_module import Config as Config  # a part of this file, for its readers
from diptych.models.early_fusion._visualbert_module import Seen, VisualBert, asked_places
from diptych.objectives.masked import masked_positions, token_loss

VERBS = ("score_pairs", "fill_text")
READS = ("VisualBertForPreTraining",)

PREDICTION_BATCH = 256


class VisualBertTask(Task[RegionTextBatch]):
    """Masked words with the regions in view, and whether the caption is the picture's."""

    processor: RegionTextProcessor

    def __init__(
        self, config: Config, processor: RegionTextProcessor, word_masking: float = 0.15,
        backbone: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = config
        self.processor = processor
        self.word_masking = word_masking
        self.model = VisualBertPredictor.build(config, processor, backbone)

    def losses(self, batch: RegionTextBatch, phase: str = "main") -> Losses:
        return self.losses_of(self._masked(batch), batch.lengths_B, self.model.look(batch.pictures), batch.matches_B)

    def losses_of(self, words: MaskedWords, lengths_B: Tensor, seen: Seen, matches_B: Tensor) -> Losses:
        """The losses of words that are hidden already, and of regions that are seen already.

        The last block and the heads run on [CLS] and the hidden words alone.
        """
        places_BM, labels_BM = asked_places(words.labels_BT)
        with_first = F.pad(places_BM, (1, 0))  # [CLS] stands first
        hidden_BMD = self.model(words.tokens_BT, lengths_B, seen, with_first)
        rows_ND, labels_N = masked_positions(hidden_BMD[:, 1:], labels_BM)
        filled = token_loss(self.model.word_logits(rows_ND), labels_N)
        matched = token_loss(self.model.match_logits(hidden_BMD[:, 0]), (~matches_B).long())
        return {"words": Part(filled, len(labels_N)), "matching": Part(matched, len(matches_B))}

    def counts(self, batch: RegionTextBatch, phase: str = "main") -> dict[str, float]:
        asked = int((self._masked(batch).labels_BT != IGNORED).sum())
        return {"words": asked, "matching": batch.num_samples}

    def _masked(self, batch: RegionTextBatch) -> MaskedWords:
        """Words are hidden in all pairs, and asked for where the caption is the picture's own."""
        processor, ratio = self.processor, self.word_masking
        words = mask_words(batch.seeds, batch.tokens_BT, batch.lengths_B, processor.tokenizer, ratio)
        return words._replace(labels_BT=words.labels_BT.masked_fill(~batch.matches_B[:, None], IGNORED))

    def checkpoint_activations(self, on: bool) -> None:
        self.model.encoder.checkpointing = on

    def predictor(self) -> VisualBertPredictor:
        return VisualBertPredictor(self.config, self.processor, self.model, "visualbert")


class VisualBertPredictor(ModelPredictor[Config, RegionTextProcessor, VisualBert]):
    """Says how well texts match pictures, and fills in words."""

    VERBS = VERBS
    ranks_by_cosine = False

    @torch.inference_mode()
    def score_pairs(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """Log-odds [N] that text i is one of picture i.

        Args:
            visuals: paths, PIL images, arrays, bytes or Images; or region features, a float tensor [N, R, F].

        Raises:
            DataError: a text has no words, or a picture or its regions cannot be read.
            DiptychError: not one text a visual.
        """
        same_length(visuals, texts)
        rows = []
        for begin in range(0, len(texts), PREDICTION_BATCH):
            chosen = range(begin, min(begin + PREDICTION_BATCH, len(texts)))
            tokens = self.processor.tokens([texts[index] for index in chosen])
            tokens_NT, lengths_N = (part.to(self.device) for part in tokens)
            first_N1 = torch.zeros(len(chosen), 1, dtype=torch.int64, device=self.device)
            seen = seen_of(self.module, self.processor, visuals, chosen)
            hidden_N1D = self.module(tokens_NT, lengths_N, seen, first_N1)
            logits_N2 = self.module.match_logits(hidden_N1D[:, 0]).float().cpu()
            rows.append(logits_N2[:, 0] - logits_N2[:, 1])
        return torch.cat(rows) if rows else torch.zeros(0)

    @torch.inference_mode()
    def fill_text(
        self, visuals: Sequence[Any] | Tensor, texts: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[list[str]]:
        """The words for each text's "[MASK]"s, given its picture, in order; of `choices[i]` where they are given.

        Raises:
            DiptychError: not one text a visual, a text that does not fit, or choices that are no words.
        """
        same_length(visuals, texts, Verb.FILL_TEXT)

        def predict(places: Places) -> Tensor:
            _, *rows = places
            tokens_NT, lengths_N, places_NM = (part.to(self.device) for part in rows)
            seen = seen_of(self.module, self.processor, visuals, places.texts_N)
            return self.module.word_logits(self.module(tokens_NT, lengths_N, seen, places_NM))

        return fill_text(self.processor.tokenizer, self.processor.config.text.max_length, texts, choices, predict)

    @torch.inference_mode()
    def region_features(self, visuals: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """What the model sees of pictures: features [N, R, F] and how many regions each has [N], on the CPU."""
        seen = self.module.look(self.processor.pictures(visuals).to(self.device))
        return seen.features_BRF.float().cpu(), seen.counts_B.cpu()

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")
        if self.module.regions is not None and isinstance(self.module.regions.map, BackboneMap):
            self.module.regions.map.write_config(folder / "backbone")
        if isinstance(self.processor.detector, FolderDetector):
            self.processor.detector.write(folder / "detector")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        settings = from_plain(RegionTextConfig, description["processor"])
        detector = FolderDetector(folder / "detector") if settings.regions.detector else None
        tokenizer = Tokenizer.read(folder / "tokenizer.json")
        processor = RegionTextProcessor(settings, tokenizer, detector=detector)
        pretrained = isinstance(config.features, BackboneMapConfig)
        backbone = backbone_from_config(folder / "backbone", "vision") if pretrained else None
        return cls(config, processor, cls.build(config, processor, backbone), str(description["name"]))

    @classmethod
    def build(cls, config: Config, processor: RegionTextProcessor, backbone: nn.Module | None = None) -> VisualBert:
        """The module with fresh weights.

        Raises:
            ConfigError: texts may be longer than the positions, or the tokenizer is of another size.
        """
        check_texts(config.text, processor.config.text, processor.tokenizer)
        image = processor.config.image
        return VisualBert(config, image.mean, image.std, backbone)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, VisualBertTask]:
    """On a grid of regions, and on the boxes that are known of the pictures, at their smallest."""
    texts = [text for sample in samples for text in sample.texts]
    tokenizer = Tokenizer.fit(texts, 300, mask=True)
    image = ImagePreprocessing(32, resize="squash", views=None)
    grid = RegionTextConfig(image, TextPreprocessing(64), RegionConfig(grid=(1, 2)))
    boxes = replace(grid, regions=RegionConfig("boxes", grid=(2,), most=4))
    sizes = BertConfig(tokenizer.vocab_size, context=64, width=64, depth=2, heads=2, hidden=128)
    config = replace(Config.tiny(), text=sizes, features=ConvMapConfig(32, halvings=3))

    def task(config: Config, settings: RegionTextConfig) -> VisualBertTask:
        return VisualBertTask(config, RegionTextProcessor(settings, tokenizer, OtherCaptions(texts)))

    return {"grid": task(config, grid), "boxes": task(replace(config, box_geometry=False), boxes)}


def weights_from(reference: str | Path) -> VisualBertPredictor:
    """Weights of a `transformers` VisualBertForPreTraining folder or hub id; it is given region features.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder's architecture has a part that is not here.
    """
    folder = folder_of(reference)
    config = public.read_config(folder)
    processor = public.read_processor(folder, config)
    module = VisualBertPredictor.build(config, processor)
    public.fill(module, config, folder)
    return VisualBertPredictor(config, processor, module.eval(), folder.name)


def export_to(predictor: VisualBertPredictor, folder: Path) -> None:
    """Writes a `transformers` VisualBertForPreTraining folder, without what makes region features.

    Raises:
        ConfigError: the model has a part that VisualBertForPreTraining does not.
    """
    public.write(predictor.module, predictor.config, predictor.processor, predictor.name, folder)
