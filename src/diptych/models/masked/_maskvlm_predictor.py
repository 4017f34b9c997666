"""What a trained MaskVLM answers: vectors of each side, matching scores, words and patches filled in.

N pictures, texts or pairs, T tokens, D width, V vocabulary, P patches, R rows and C columns of cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError, DiptychError
from diptych.core.visual import Image
from diptych.data.cells import check_cells, hidden_patches, hidden_pixels
from diptych.data.image_text import ImageTextConfig, ImageTextProcessor
from diptych.data.text import Tokenizer, pad_tokens
from diptych.data.word_masking import require_mask
from diptych.layers.pixel_patches import unpatchify
from diptych.models.masked._maskvlm_cloze import Cloze, best_words
from diptych.models.masked._maskvlm_module import Config, MaskVlm, States

PREDICTION_BATCH = 256


class MaskVlmBase(Predictor):
    """Any number of pictures and texts, in batches; results are on the CPU."""

    config: Config
    module: MaskVlm

    def __init__(self, config: Config, processor: ImageTextProcessor, module: MaskVlm, name: str) -> None:
        self.config = config
        self.processor = processor
        self.module = module
        self.name = name

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, E].

        Args:
            visuals: paths, PIL images, arrays, bytes or Images; or one prepared float tensor [N, 3, H, W].
        """
        rows = [self.module.joint_image(self.module.vision(self._pixels(some))) for some in _batches(visuals)]
        return torch.cat(rows).float().cpu() if rows else torch.zeros(0)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [N, E]."""
        rows = [self.module.joint_text(self.module.text.first(*self._tokens(some))) for some in _batches(texts)]
        return torch.cat(rows).float().cpu() if rows else torch.zeros(0)

    @torch.inference_mode()
    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        """[N]: the logit of "they match" minus that of "they do not", of visual i with text i."""
        _same_number(visuals, texts)
        rows = []
        for begin in range(0, len(texts), PREDICTION_BATCH):
            part = slice(begin, begin + PREDICTION_BATCH)
            pictures, picture_N = _unique(visuals[part], id)
            sentences, sentence_N = _unique(texts[part], str)
            states = self._states(pictures, sentences)
            lengths_N = self._tokens(sentences)[1][sentence_N]
            logits_N2 = self.module.fusion.matching(states.image_BTD[picture_N], states.text_BTD[sentence_N], lengths_N)
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
            DiptychError: a text has no room for its tokens, or no choices.
        """
        _same_number(visuals, texts)
        tokenizer, longest = self.processor.tokenizer, self.processor.config.text.max_length
        asked = [
            Cloze.of(tokenizer, index, text, longest, None if choices is None else choices[index])
            for index, text in enumerate(texts)
        ]
        rows = [row for cloze in asked for row in cloze.rows]
        found: list[Tensor] = []
        for some in _batches(rows):
            found += self._log_probabilities([visuals[row.text] for row in some], [row.ids for row in some])
        answers = iter(found)
        return [best_words(tokenizer, cloze, [next(answers) for _ in cloze.rows]) for cloze in asked]

    def _log_probabilities(self, visuals: Sequence[Any], ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """[M, V] of each row's masked places, given its picture."""
        module, mask_id = self.module, require_mask(self.processor.tokenizer)
        pictures, picture_N = _unique(visuals, id)
        image_BTD = module.vision.tokens(self._pixels(pictures))[picture_N]
        tokens_NT, lengths_N = (x.to(self.device) for x in pad_tokens(ids, self.processor.tokenizer.pad_id))
        fused_NTD = module.fusion.words(module.text.tokens(tokens_NT, lengths_N), lengths_N, image_BTD)
        masked_NT = tokens_NT == mask_id
        logits_MV = module.word_logits(fused_NTD[masked_NT]).float().log_softmax(-1).cpu()
        return list(logits_MV.split(masked_NT.sum(1).tolist()))

    @torch.inference_mode()
    def fill_image(self, visuals: Sequence[Any], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
        """The prepared pictures with what the decoder paints in their hidden cells, and themselves elsewhere.

        Args:
            hidden_NRC: bool, True for a hidden one of R x C equal cells over the prepared picture. Every patch that
                touches one is hidden from the model.

        Raises:
            DiptychError: the numbers of pictures, texts and grids differ, or the cells are no such grid.
        """
        _same_number(visuals, texts)
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
        tokens_NT, lengths_N = self._tokens(texts)
        states_NTD = module.vision.tokens(module.covered(image_NCHW, hidden_NP))
        patches_NPX = module.predicted_pixels(states_NTD, module.text.tokens(tokens_NT, lengths_N), lengths_N)
        painted_NCHW = unpatchify(patches_NPX.float(), patch, size // patch, size // patch)
        shown = torch.where(hidden_pixels(hidden_NRC, size, size)[:, None], painted_NCHW, image_NCHW)
        levels = (shown - module.normalise.shift_C11) / module.normalise.factor_C11
        pixels_NHWC = levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image(pixels_HWC=pixels_HWC) for pixels_HWC in pixels_NHWC]

    def _states(self, visuals: Sequence[Any], texts: Sequence[str]) -> States:
        return States(self.module.vision.tokens(self._pixels(visuals)), self.module.text.tokens(*self._tokens(texts)))

    def _pixels(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Normalised pixels on the device."""
        pixels = visuals if isinstance(visuals, Tensor) else self.processor.pixels(visuals)
        return self.module.normalise(pixels.to(self.device))

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens_NT, lengths_N = self.processor.tokens(texts)
        return tokens_NT.to(self.device), lengths_N.to(self.device)

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        settings = from_plain(ImageTextConfig, description["processor"])
        processor = ImageTextProcessor(settings, Tokenizer.read(folder / "tokenizer.json"))
        return cls(config, processor, cls.build(config, processor), str(description["name"]))

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> MaskVlm:
        """The module with fresh weights.

        Raises:
            ConfigError: the processor makes what the encoders cannot take.
        """
        settings, tokenizer = processor.config, processor.tokenizer
        require_mask(tokenizer)
        if tokenizer.start_id is None:
            raise ConfigError("a text is read at its start token, and this tokenizer has none: fit or take another one")
        for made, taken, what in (
            (settings.text.max_length, config.text.context, "longest text in tokens"),
            (tokenizer.vocab_size, config.text.vocab_size, "vocabulary"),
        ):
            if made > taken:
                raise ConfigError(
                    f"the processor's {what} is {made}, and the text encoder takes {taken}: raise it there"
                )
        if settings.image.size != config.vision.image_size or settings.text.pad_to_max or settings.text.negatives:
            raise ConfigError(
                f"the image encoder takes pictures of {config.vision.image_size} pixels, and the processor makes them "
                f"of {settings.image.size}; pad_to_max and negatives are to be off"
            )
        return MaskVlm(config, settings.image.mean, settings.image.std)


def _batches(items: Any) -> Iterator[Any]:
    """Runs of at most PREDICTION_BATCH."""
    for begin in range(0, len(items), PREDICTION_BATCH):
        yield items[begin : begin + PREDICTION_BATCH]


def _unique(items: Sequence[Any], key: Any) -> tuple[list[Any], list[int]]:
    """The different items, and where each of the given ones is among them: pairs come in runs of one picture."""
    places: dict[Any, int] = {}
    kept: list[Any] = []
    where = []
    for item in items:
        where.append(places.setdefault(key(item), len(kept)))
        if where[-1] == len(kept):
            kept.append(item)
    return kept, where


def _same_number(visuals: Sequence[Any], texts: Sequence[str]) -> None:
    if len(visuals) != len(texts):
        raise DiptychError(f"{len(visuals)} visuals and {len(texts)} texts make no pairs: give as many of both")
