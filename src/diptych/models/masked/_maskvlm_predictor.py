"""MaskVLM's predictor: vectors of each side, matching scores, words and patches filled in.

N pictures, texts or pairs, T tokens, D width, V vocabulary, P patches, R rows and C columns of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.derive import same_length
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError
from diptych.core.visual import Image
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.data.pixels.cells import check_cells, hidden_patches, hidden_pixels
from diptych.data.words.word_masking import require_mask
from diptych.layers.bert import rows_at
from diptych.layers.feature_map import BackboneMap
from diptych.layers.pixel_patches import unpatchify
from diptych.layers.vision_transformer import VisionTransformer
from diptych.models._batches import batches
from diptych.models._check_texts import check_texts
from diptych.models._fill_text import Places, fill_text
from diptych.models._image_text_predictor import OnBackbonePredictor
from diptych.models.masked._maskvlm_module import Config, MaskVlm

PREDICTION_BATCH = 256


class MaskVlmBase(OnBackbonePredictor[Config, MaskVlm]):
    """Any number of pictures and texts, in batches; results are on the CPU."""

    CONFIG = Config

    @property
    def vision(self) -> VisionTransformer:
        return self.module.vision

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, E].

        Args:
            visuals: paths, PIL images, arrays, bytes or Images; or one prepared float tensor [N, 3, H, W].
        """
        rows = [
            self.module.joint_image(self.module.vision(self._pixels(some)))
            for some in batches(visuals, PREDICTION_BATCH)
        ]
        return torch.cat(rows).float().cpu() if rows else torch.zeros(0)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [N, E]."""
        rows = [
            self.module.joint_text(self.module.text.first(*self._tokens(some)))
            for some in batches(texts, PREDICTION_BATCH)
        ]
        return torch.cat(rows).float().cpu() if rows else torch.zeros(0)

    @torch.inference_mode()
    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        """[N]: the logit of "they match" minus that of "they do not", of visual i with text i."""
        same_length(visuals, texts)
        rows = []
        for begin in range(0, len(texts), PREDICTION_BATCH):
            part = slice(begin, begin + PREDICTION_BATCH)
            image_NTD = self._image_states(visuals[part], range(len(visuals[part])))
            tokens_NT, lengths_N = self._tokens(texts[part])
            text_NTD = self.module.text.tokens(tokens_NT, lengths_N)
            logits_N2 = self.module.fusion.matching(image_NTD, text_NTD, lengths_N)
            rows.append(logits_N2[:, 1] - logits_N2[:, 0])
        return torch.cat(rows).float().cpu() if rows else torch.zeros(0)

    @torch.inference_mode()
    def fill_text(
        self, visuals: Sequence[Any], texts: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[list[str]]:
        """The words for each text's "[MASK]"s, in order; nothing for a text without any.

        Args:
            choices: for each text the words that may stand there: a word of n tokens is scored by the mean
                log-probability of its tokens in n masked places. None for any one token of the vocabulary.

        Raises:
            DiptychError: there is not one visual a text, a text has no room for its tokens, or no choices.
        """
        same_length(visuals, texts, Verb.FILL_TEXT)
        longest, module = self.processor.config.text.max_length, self.module

        def predict(places: Places) -> Tensor:
            image_NTD = self._image_states(visuals, places.texts_N)
            tokens_NT, lengths_N = places.tokens_NT.to(self.device), places.lengths_N.to(self.device)
            fused_NTD = module.fusion.words(module.text.tokens(tokens_NT, lengths_N), lengths_N, image_NTD)
            return module.word_logits(rows_at(fused_NTD, places.places_NM.to(self.device)))

        return fill_text(self.processor.tokenizer, longest, texts, choices, predict)

    @torch.inference_mode()
    def fill_image(self, visuals: Sequence[Any], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
        """The prepared pictures with what the decoder paints in their hidden cells, and themselves elsewhere.

        Args:
            hidden_NRC: bool, True for a hidden one of R x C equal cells over the prepared picture. Every patch that
                touches one is hidden from the model.

        Raises:
            DiptychError: the numbers of pictures, texts and grids differ, or the cells are no such grid.
        """
        same_length(visuals, texts, Verb.FILL_IMAGE)
        size = self.config.vision.image_size
        hidden_NRC = check_cells(hidden_NRC, len(visuals), size, size)
        filled: list[Image] = []
        for begin in range(0, len(texts), PREDICTION_BATCH):
            part = slice(begin, begin + PREDICTION_BATCH)
            filled += self._filled(visuals[part], texts[part], hidden_NRC[part].to(self.device))
        return filled

    def _filled(self, visuals: Sequence[Any], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
        module, patch, size = self.module, self.config.vision.patch_size, self.config.vision.image_size
        image_NCHW = self._pixels(visuals)
        hidden_NP = hidden_patches(hidden_NRC, size, size, patch).flatten(1)
        tokens_NT, lengths_N = self._tokens([""] * len(texts) if self.config.text_free else texts)
        states_NTD = module.vision.tokens(module.covered(image_NCHW, hidden_NP))
        patches_NPX = module.predicted_pixels(states_NTD, module.text.tokens(tokens_NT, lengths_N), lengths_N)
        painted_NCHW = unpatchify(patches_NPX.float(), patch, size // patch, size // patch)
        shown = torch.where(hidden_pixels(hidden_NRC, size, size)[:, None], painted_NCHW, image_NCHW)
        levels = (shown - module.normalise.shift_C11) / module.normalise.factor_C11
        pixels_NHWC = levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image(pixels_HWC=pixels_HWC) for pixels_HWC in pixels_NHWC]

    def _image_states(self, visuals: Sequence[Any] | Tensor, wanted: Sequence[int]) -> Tensor:
        """Every token [N, T, D] of the wanted ones; one that is wanted, or there, several times is encoded once."""
        held = visuals if isinstance(visuals, Tensor) else list(visuals)
        first: dict[int, int] = {}
        chosen: list[int] = []
        rows_N: list[int] = []
        for index in wanted:
            key = index if isinstance(held, Tensor) else id(held[index])
            rows_N.append(first.setdefault(key, len(first)))
            if rows_N[-1] == len(chosen):
                chosen.append(index)
        some = held[chosen] if isinstance(held, Tensor) else [held[index] for index in chosen]
        states: Tensor = self.module.vision.tokens(self._pixels(some))
        return states[rows_N]

    def _pixels(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Normalised pixels on the device."""
        pixels = visuals if isinstance(visuals, Tensor) else self.processor.pixels(visuals)
        normalised: Tensor = self.module.normalise(pixels.to(self.device))
        return normalised

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens_NT, lengths_N = self.processor.tokens(texts)
        return tokens_NT.to(self.device), lengths_N.to(self.device)

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor, backbone: BackboneMap | None = None) -> MaskVlm:
        """The module with fresh weights, but for a backbone's.

        Raises:
            ConfigError: the processor makes what the encoders cannot take.
        """
        settings, tokenizer = processor.config, processor.tokenizer
        require_mask(tokenizer)
        if tokenizer.start_id is None:
            raise ConfigError("a text is read at its start token, and this tokenizer has none: fit or take another one")
        check_texts(config.text, settings.text, tokenizer)
        if settings.image.size != config.vision.image_size or settings.text.pad_to_max or settings.text.negatives:
            raise ConfigError(
                f"the image encoder takes pictures of {config.vision.image_size} pixels, and the processor makes them "
                f"of {settings.image.size}; pad_to_max and negatives are to be off"
            )
        return MaskVlm(config, settings.image.mean, settings.image.std, backbone)
