"""FLAVA's predictor.

N pairs, B of a batch, C channels, H height, W width, P patches, G x G their grid, R x C hidden cells, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from diptych.capabilities.derive import same_length
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError
from diptych.core.visual import Image
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.data.pixels.cells import check_cells
from diptych.layers.bert import rows_at
from diptych.layers.feature_map import BackboneMap
from diptych.layers.vision_transformer import VisionTransformer
from diptych.models._batches import batches
from diptych.models._check_texts import check_texts
from diptych.models._fill_text import Places, fill_text
from diptych.models._image_text_predictor import OnBackbonePredictor
from diptych.models.masked._flava_export import write_folder
from diptych.models.masked._flava_module import Flava, FlavaSizes, words_of
from diptych.models.masked._flava_painting import painted

PREDICTION_BATCH = 128


class PublicFlavaPredictor(OnBackbonePredictor[FlavaSizes, Flava]):
    """All that a FLAVA can do whose codebook makes no pictures."""

    VERBS: ClassVar[tuple[str, ...]] = ("encode_image", "encode_text", "score_pairs", "fill_text")
    CONFIG = FlavaSizes

    @classmethod
    def build(cls, config: FlavaSizes, processor: ImageTextProcessor, backbone: BackboneMap | None = None) -> Flava:
        return built(config, processor, backbone)

    @property
    def vision(self) -> VisionTransformer:
        return self.module.image

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, D] on the CPU.

        Args:
            visuals: paths, PIL images, arrays, bytes or Images; or one prepared float tensor [N, 3, H, W].
        """
        rows = [
            self.module.encode_image(self._pixels(some)).float().cpu() for some in batches(visuals, PREDICTION_BATCH)
        ]
        return torch.cat(rows) if rows else torch.zeros(0)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [N, D] on the CPU."""
        rows = [self.module.encode_text(*self._tokens(some)).float().cpu() for some in batches(texts, PREDICTION_BATCH)]
        return torch.cat(rows) if rows else torch.zeros(0)

    @torch.inference_mode()
    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        """Logit [N] of "they match" minus logit of "they do not", of whole pictures and texts; on the CPU."""
        same_length(visuals, texts)
        rows = []
        for some, said in zip(batches(visuals, PREDICTION_BATCH), batches(texts, PREDICTION_BATCH), strict=True):
            pixels_NCHW, rows_B = self._once(some)
            hidden_NP = self.module.nothing_hidden(len(pixels_NCHW), self.device)
            states_BSD = self.module.fuse(pixels_NCHW, hidden_NP, *self._tokens(said), rows_B)
            logits_B2 = self.module.itm(self.module.fusion.norm_post(states_BSD[:, 0])).float()
            rows.append((logits_B2[:, 1] - logits_B2[:, 0]).cpu())
        return torch.cat(rows) if rows else torch.zeros(0)

    @torch.inference_mode()
    def fill_text(
        self, visuals: Sequence[Any] | Tensor, texts: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[list[str]]:
        """The words for every "[MASK]" of each text, in order; one of `choices[i]` where they are given.

        Raises:
            DiptychError: a text does not fit, or an empty choice.
        """
        same_length(visuals, texts, Verb.FILL_TEXT)
        module, patches = self.module, self.config.vision.grid**2

        def predict(places: Places) -> Tensor:
            wanted = visuals[places.texts_N] if isinstance(visuals, Tensor) else [visuals[i] for i in places.texts_N]
            pixels_NCHW, rows_B = self._once(wanted)
            _, *rows = places
            tokens_BT, lengths_B, places_BM = (part.to(self.device) for part in rows)
            hidden_NP = module.nothing_hidden(len(pixels_NCHW), self.device)
            states_BSD = module.fuse(pixels_NCHW, hidden_NP, tokens_BT, lengths_B, rows_B)
            words_BMD = rows_at(words_of(states_BSD, patches), places_BM)
            logits_BMV: Tensor = module.mmm_text(module.fusion.norm_post(words_BMD))
            return logits_BMV

        return fill_text(self.processor.tokenizer, self.processor.config.text.max_length, texts, choices, predict)

    def _pixels(self, visuals: Any) -> Tensor:
        pixels = visuals if isinstance(visuals, Tensor) else self.processor.pixels(visuals)
        return pixels.to(self.device)

    def _once(self, visuals: Any) -> tuple[Tensor, Tensor]:
        """Every picture once, and the row [B] of each visual among them: a picture may be asked about many texts."""
        if isinstance(visuals, Tensor):
            return self._pixels(visuals), torch.arange(len(visuals), device=self.device)
        held = list(visuals)
        once = {id(visual): visual for visual in held}
        row_of = {identity: row for row, identity in enumerate(once)}
        rows_B = torch.tensor([row_of[id(visual)] for visual in held], device=self.device)
        return self._pixels(list(once.values())), rows_B

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens_BT, lengths_B = self.processor.tokens(texts)
        return tokens_BT.to(self.device), lengths_B.to(self.device)


class FlavaPredictor(PublicFlavaPredictor):
    """All of it: the codebook is a tokenizer of ours, which makes pictures of codes."""

    VERBS: ClassVar[tuple[str, ...]] = (*PublicFlavaPredictor.VERBS, "fill_image")

    @torch.inference_mode()
    def fill_image(self, visuals: Sequence[Any], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
        """Pictures with their hidden cells as predicted from what is visible and the text.

        Args:
            hidden_NRC: bool, True where a cell is hidden, over R x C equal cells of the prepared picture. Patches that
                touch one are hidden from the model; of what is predicted only the hidden cells are shown.

        Raises:
            DiptychError: not one text and one grid of cells a picture.
        """
        same_length(visuals, texts)
        side = self.config.vision.image_size
        hidden_NRC = check_cells(hidden_NRC, len(visuals), side, side)
        pictures: list[Image] = []
        for begin in range(0, len(texts), PREDICTION_BATCH):
            some = slice(begin, begin + PREDICTION_BATCH)
            pixels_BCHW, (tokens_BT, lengths_B) = self._pixels(visuals[some]), self._tokens(texts[some])
            hidden_BRC = hidden_NRC[some].to(self.device)
            found = painted(self.module, self.processor.config.image, pixels_BCHW, tokens_BT, lengths_B, hidden_BRC)
            pictures += [Image(pixels_HWC=one.numpy()) for one in found.permute(0, 2, 3, 1).cpu().contiguous()]
        return pictures


def export_to(predictor: PublicFlavaPredictor, folder: Path) -> None:
    """Writes a `transformers` FlavaForPreTraining folder, without a codebook of our own.

    Raises:
        ConfigError: the model has a part that FlavaForPreTraining does not.
    """
    write_folder(predictor.module, predictor.processor, predictor.name, folder)


def built(config: FlavaSizes, processor: ImageTextProcessor, backbone: BackboneMap | None = None) -> Flava:
    """The module with fresh weights, but for a backbone's, for what a processor makes.

    Raises:
        ConfigError: the processor makes what the encoders cannot take.
    """
    made, taken = processor.config.image.size, config.vision.image_size
    if made != taken:
        raise ConfigError(f"the processor makes pictures of {made} pixels, the image encoder takes {taken}")
    check_texts(config.text, processor.config.text, processor.tokenizer)
    if processor.tokenizer.start_id is None:
        raise ConfigError("this tokenizer puts no start token before a text, at which FLAVA reads it")
    return Flava(config, processor.config.image.mean, processor.config.image.std, backbone)
