"""The predictor of BLIP-2's first stage: scores by the best query and by the matching head, and captions.

N pictures, texts or rows, M texts, Q queries, S features of a picture, C their width, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import GREEDY, Likelihood, Prompt
from diptych.capabilities.verbs import Comparable
from diptych.core.config import from_plain, to_plain
from diptych.core.errors import TextTooLong
from diptych.core.losses import IGNORED
from diptych.core.sampling import TextSampling
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.words.tokenizer import Tokenizer, pad_tokens
from diptych.decoding.texts import written_texts
from diptych.layers.backbone_folder import backbone_from_config
from diptych.models._batches import batches, seeded_batches
from diptych.models._model_predictor import ModelPredictor
from diptych.models.generative._captioning import Beginning, beginning_of, joined, likelihood_rows
from diptych.models.pretrained_backbone._blip2_module import Blip2, Config
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.objectives.autoregressive import token_log_probabilities
from diptych.objectives.best_query import best_query

VERBS = ("score", "score_pairs", "generate_text", "text_likelihood")
PREDICTION_BATCH = 64


class Blip2Predictor(ModelPredictor[Config, ImageTextProcessor, Blip2]):
    """Scores pairs by the best query and by the matching head, and writes captions."""

    VERBS = VERBS
    comparable_over = Comparable.BOTH

    @torch.inference_mode()
    def score(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """The cosine [N, M] of each text with the closest query of each picture, on the CPU."""
        pictures = [self.module.image_vectors(self._see(some)) for some in batches(visuals, PREDICTION_BATCH)]
        said = [self.module.text_vectors(*self._tokens(some)) for some in batches(texts, PREDICTION_BATCH)]
        if not (pictures and said):
            return torch.zeros(len(visuals), len(texts))
        return best_query(torch.cat(pictures), torch.cat(said)).float().cpu()

    @torch.inference_mode()
    def score_pairs(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """[N]: the logit of "they match" minus that of "they do not", of visual i with text i."""
        same_length(visuals, texts)
        rows = [torch.zeros(0)]
        for some, said in zip(batches(visuals, PREDICTION_BATCH), batches(texts, PREDICTION_BATCH), strict=True):
            logits_N2 = self.module.matching(self._see(some), *self._tokens(said)).float()
            rows.append((logits_N2[:, 1] - logits_N2[:, 0]).cpu())
        return torch.cat(rows)

    @torch.inference_mode()
    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        """A caption of each prompt's picture, after the words that it begins with.

        Raises:
            DiptychError: a prompt is not one picture, then text.
            TextTooLong: a beginning has no room for one more token.
            ConfigError: not one seed a prompt.
        """
        begun = [beginning_of(prompt, self.processor.tokenizer) for prompt in prompts]
        written: list[str] = []
        for some, drawn in seeded_batches(begun, seeds, "prompts", PREDICTION_BATCH):
            written += self._written(some, sampling, drawn)
        return written

    def _written(self, begun: Sequence[Beginning], sampling: TextSampling, seeds: Sequence[int]) -> list[str]:
        words, most = self.processor.tokenizer, self.processor.config.text.max_length
        image_NSC = self._see([one.visual for one in begun])
        decoder = QFormerDecoder(self.module, image_NSC, [one.tokens for one in begun], most)
        rooms = [most - len(one.tokens) for one in begun]
        rows = written_texts(decoder, rooms, sampling, [words.end_id], seeds)
        return [words.decode(row).strip() for row in rows]

    @torch.inference_mode()
    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        """log p(text i | picture i, prompt i), summed over the text's tokens and its end; None shows the mean colour.

        Raises:
            DiptychError: not one prompt and one text a visual.
            TextTooLong: a prompt with its text does not fit.
        """
        parts = []
        for some in batches(likelihood_rows(self.processor, visuals, prompts, texts), PREDICTION_BATCH):
            tokens_NT, _, labels_NT = (part.to(self.device) for part in joined(some, self.processor.tokenizer))
            states_NTD = self.module.written(self._see([row.visual for row in some]), tokens_NT)
            chances_NT = token_log_probabilities(self.module.logits(states_NTD), labels_NT)
            parts.append((chances_NT.sum(1), (labels_NT != IGNORED).sum(1)))
        return Likelihood.joined(parts)

    def _see(self, visuals: Sequence[Any | None] | Tensor) -> Tensor:
        """Features of pictures; of one that is not there those of the mean colour."""
        if isinstance(visuals, Tensor):
            return self.module.see(visuals.to(self.device))
        size = self.processor.config.image.size
        prepared_NCHW = torch.zeros(len(visuals), 3, size, size, device=self.device)
        shown = [place for place, visual in enumerate(visuals) if visual is not None]
        if shown:
            pixels = self.processor.pixels([visuals[place] for place in shown]).to(self.device)
            prepared_NCHW[shown] = self.module.tower.prepared(pixels)
        return self.module.see(prepared_NCHW)

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens_NT, lengths_N = self.processor.tokens(texts)
        return tokens_NT.to(self.device), lengths_N.to(self.device)

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """What every picture goes through first."""
        return self.processor.config.image

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")
        self.module.tower.write_config(folder / "tower")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        settings = from_plain(ImageTextConfig, description["processor"])
        processor = ImageTextProcessor(settings, Tokenizer.read(folder / "tokenizer.json"))
        image = settings.image
        backbone = backbone_from_config(folder / "tower", "vision")
        tower = PatchFeatures(backbone, False, image.mean, image.std, config.layer, config.special)
        return cls(config, processor, Blip2(config, tower), str(description["name"]))


class QFormerDecoder:
    """Rows that are written by reading them again from their beginning each time."""

    def __init__(self, module: Blip2, image_NSC: Tensor, begun: Sequence[Sequence[int]], most: int) -> None:
        longest = max(len(row) for row in begun)
        if longest >= most:
            raise TextTooLong(f"a beginning of {longest} tokens leaves no room to go on in {most}: shorten it")
        self._module, self._image = module, image_NSC
        self._rows = [list(row) for row in begun]

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """Logits [N, V] of each row's next token; what begins a text is never written."""
        if tokens_N is not None:
            for row, token in zip(self._rows, tokens_N.tolist(), strict=True):
                row.append(token)
        tokens_NT, lengths_N = pad_tokens(self._rows, 0)
        device = self._image.device
        states_NTD = self._module.written(self._image, tokens_NT.to(device))
        last_ND = states_NTD[torch.arange(len(self._rows), device=device), lengths_N.to(device) - 1]
        logits_NV = self._module.logits(last_ND)
        logits_NV[:, self._module.begin] = -torch.inf
        return logits_NV

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._image = self._image[rows_M]
        self._rows = [list(self._rows[row]) for row in rows_M.tolist()]
