"""The predictor of document models: writes texts, pictures and whole documents, and says how likely each is.

N rows, T tokens, P codes of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import GREEDY, OWN_WAY, Likelihood, Prompt
from diptych.capabilities.verbs import Verb
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError, TextTooLong
from diptych.core.losses import IGNORED
from diptych.core.sampling import ImageSampling, TextSampling
from diptych.core.visual import Image
from diptych.data.words.cloze import word_ids
from diptych.data.words.tokenizer import pad_tokens
from diptych.decoding.beam import beam_search
from diptych.decoding.decoder import Decoder
from diptych.decoding.guidance import guided
from diptych.decoding.trunk_decoder import TrunkDecoder
from diptych.decoding.write import write
from diptych.models._batches import batches, seeded_batches
from diptych.models._image_text_predictor import ImageTextPredictor
from diptych.models.generative._document_module import CodeDecoder, DocumentModel
from diptych.models.generative._picture_codes import codes_of
from diptych.models.generative._prompts import check_prompts, start_of
from diptych.models.image_tokenizer._picture_predictor import images_of
from diptych.objectives.autoregressive import token_log_probabilities

PREDICTION_BATCH = 64

ConfigT = TypeVar("ConfigT", bound=ModelConfig)


class DocumentPredictor(ImageTextPredictor[ConfigT, DocumentModel], Generic[ConfigT]):
    """Writes documents and parts of them."""

    likelihood_is = "exact over the picture's codes"

    def without(self, text: str) -> list[int]:
        """What stands in the place of a picture's text where it is not told."""
        return []

    def openings(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The tokens that stand before each prompt: other documents, or nothing."""
        return [[] for _ in prompts]

    def combined(self, told: Decoder, untold: Decoder | None, weight: float) -> Decoder:
        """Both streams as one."""
        return guided(told, untold, weight)

    def guidance(self) -> float:
        """Of pictures, where a caller says nothing."""
        return 1.0

    def temperature(self) -> float:
        """The same."""
        return 1.0

    @torch.inference_mode()
    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        """A text after each prompt of texts and pictures, in any order.

        Raises:
            TextTooLong: a prompt has no room for one more token.
            ConfigError: not one seed a prompt.
        """
        written: list[str] = []
        for rows, drawn in seeded_batches(self.rows(prompts), seeds, "prompts", PREDICTION_BATCH):
            written += self._texts(rows, sampling, drawn)
        return written

    def _texts(self, rows: Sequence[list[int]], sampling: TextSampling, seeds: Sequence[int]) -> list[str]:
        words, module = self.processor.tokenizer, self.module
        rooms = [module.context - len(row) for row in rows]
        only_text = (*self.never(), module.layout.begin)
        if sampling.beams > 1:
            found = beam_search(self.decoder(rows, only_text), rooms, sampling, [words.end_id])
        else:
            grammar = module.layout.grammar([[]] * len(rows), only_text)
            drawn = seeds if sampling.temperature else ()
            found = write(self.decoder(rows), rooms, sampling, [words.end_id], drawn, grammar)
        return [words.decode(row).strip() for row in found]

    def never(self) -> tuple[int, ...]:
        """Tokens of the text's vocabulary that are never written."""
        words = self.processor.tokenizer
        return tuple({start_of(words), words.pad_id} - {words.end_id})

    @torch.inference_mode()
    def generate_image(
        self, texts: Sequence[str], seeds: int | Sequence[int] = 0, sampling: ImageSampling = OWN_WAY
    ) -> list[Image]:
        """A picture of each text, written after it.

        Raises:
            DiptychError: a prompt has no words.
            TextTooLong: a prompt and a picture do not fit.
            ConfigError: not one seed a text, or a setting of other models.
        """
        drawn = seeded_batches(texts, seeds, "texts", PREDICTION_BATCH)
        check_prompts(texts, self.processor)
        if sampling.steps or sampling.candidates > 1:
            raise ConfigError(
                f"steps {sampling.steps} and candidates {sampling.candidates}: this model neither diffuses nor ranks, "
                f"so leave them out"
            )
        made: list[Image] = []
        for some, own in drawn:
            codes_NP = self.written_codes(some, own, sampling)
            made += images_of(self.module.tokenizer.decode(self._as_grid(codes_NP)))
        return made

    def written_codes(self, texts: Sequence[str], seeds: Sequence[int], sampling: ImageSampling) -> Tensor:
        """The codes [N, P] of a picture of each text."""
        layout, weight = self.module.layout, sampling.guidance
        weight = self.guidance() if weight is None else weight
        told = self._before_pictures(texts)
        untold = [[start_of(self.processor.tokenizer), *self.without(text), layout.begin] for text in texts]
        self.require_room(told, layout.length)
        first = self._code_decoder(told) if weight else None
        second = self._code_decoder(untold) if weight != 1 else None
        decoder = self.combined(first, second, weight) if first is not None else second
        assert decoder is not None
        drawing = sampling.of_codes(layout.length, self.temperature())
        rooms = [layout.length] * len(texts)
        codes = write(decoder, rooms, drawing, (), seeds if drawing.temperature else ())
        return torch.tensor(codes, device=self.device).view(len(texts), -1)

    def _code_decoder(self, rows: Sequence[list[int]]) -> Decoder:
        """Of codes alone, by number: what may stand in a picture."""
        module = self.module
        whole = TrunkDecoder(module.trunk, module.embed, module.code_logits, rows, module.context, self.device)
        return CodeDecoder(whole, module.layout.first)

    def _as_grid(self, codes_NP: Tensor) -> Tensor:
        rows, columns = self.module.tokenizer.grid(self.processor.config.image.size)
        return codes_NP.view(len(codes_NP), rows, columns)

    @torch.inference_mode()
    def continue_document(self, parts: Prompt, sampling: TextSampling = GREEDY, seed: int = 0) -> list[str | Image]:
        """Texts and pictures after the parts, until the document ends; every picture is whole or left out.

        Raises:
            TextTooLong: the parts do not fit the model's context.
        """
        (row,) = self.rows([parts])
        self.require_room([row], 1)
        room, layout = self.module.context - len(row), self.module.layout
        grammar = layout.grammar([row], self.never())
        ends, drawn = [self.processor.tokenizer.end_id], [seed] if sampling.temperature else []
        (tokens,) = write(self.decoder([row]), [room], sampling, ends, drawn, grammar)
        return self.parts_of(tokens)

    def parts_of(self, tokens: Sequence[int]) -> list[str | Image]:
        """Texts and pictures of a row of tokens."""
        layout, words = self.module.layout, self.processor.tokenizer
        found: list[str | Image] = []
        text: list[int] = []
        codes: list[int] = []
        for token in [*tokens, layout.begin]:
            if token == layout.begin:
                said = words.decode(text).strip()
                found += [said] if said else []
                text = []
            elif layout.is_code(token):
                codes.append(token - layout.first)
            elif token == layout.finish:
                grid = self._as_grid(torch.tensor([codes], device=self.device))
                found += images_of(self.module.tokenizer.decode(grid))
                codes = []
            else:
                text.append(token)
        return found

    @torch.inference_mode()
    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        """log p(text i | visual i, prompt i), summed over the text's tokens and its end; None shows nothing.

        Raises:
            DiptychError: not one prompt and one text a visual.
            TextTooLong: picture, prompt and text do not fit.
        """
        same_length(visuals, texts, Verb.TEXT_LIKELIHOOD)
        same_length(visuals, prompts, Verb.TEXT_LIKELIHOOD)
        words = self.processor.tokenizer
        pairs = zip(visuals, prompts, strict=True)
        given = self.rows([[prompt] if visual is None else [visual, prompt] for visual, prompt in pairs])
        asked = [[*word_ids(words, text), words.end_id] for text in texts]
        self.require_room([row + more for row, more in zip(given, asked, strict=True)], 0)
        return self._likelihood(given, asked)

    @torch.inference_mode()
    def image_likelihood(self, texts: Sequence[str | None], visuals: Sequence[Any] | Tensor) -> Likelihood:
        """log p(codes of visual i | text i), over what may stand in a picture; of no text where it is None.

        Raises:
            DiptychError: not one text a visual.
            TextTooLong: a text and a picture do not fit.
        """
        same_length(visuals, texts, Verb.IMAGE_LIKELIHOOD)
        start, layout = start_of(self.processor.tokenizer), self.module.layout
        told = iter(self._before_pictures([text for text in texts if text is not None]))
        given = [[start, *self.without(""), layout.begin] if text is None else next(told) for text in texts]
        self.require_room(given, layout.length)
        coded = [[layout.first + code for code in codes] for codes in self._codes(visuals).tolist()]
        return self._likelihood(given, coded, codes_only=True)

    def _likelihood(
        self, given: Sequence[list[int]], asked: Sequence[list[int]], codes_only: bool = False
    ) -> Likelihood:
        """Of what is asked after what is given."""
        module, sums = self.module, [torch.zeros(0, dtype=torch.float64)]
        for some in batches(list(zip(given, asked, strict=True)), PREDICTION_BATCH):
            tokens_NT, _ = pad_tokens([row + more for row, more in some], self.processor.tokenizer.pad_id)
            labels_NT = torch.full_like(tokens_NT, IGNORED)
            for place, (row, more) in enumerate(some):
                labels_NT[place, len(row) - 1 : len(row) + len(more) - 1] = torch.tensor(more)
            tokens_NT, labels_NT = tokens_NT.to(self.device), labels_NT.to(self.device)
            states_NTD = module(tokens_NT)
            if codes_only:
                labels_NT = torch.where(labels_NT == IGNORED, labels_NT, labels_NT - module.layout.first)
            logits = module.code_logits(states_NTD) if codes_only else module.logits(states_NTD)
            sums.append(token_log_probabilities(logits, labels_NT).sum(1).cpu())
        return Likelihood(torch.cat(sums), torch.tensor([len(one) for one in asked], dtype=torch.int64))

    def rows(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The tokens of prompts: the start, what stands before them, words and pictures."""
        start, openings = start_of(self.processor.tokenizer), self.openings(prompts)
        return [[start, *before, *row] for before, row in zip(openings, self.tokens_of(prompts), strict=True)]

    def tokens_of(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Words and pictures alone."""
        words, layout = self.processor.tokenizer, self.module.layout
        pictures = [part for prompt in prompts for part in prompt if not isinstance(part, str)]
        codes = iter(self._codes(pictures).tolist())
        rows = []
        for prompt in prompts:
            row: list[int] = []
            for part in prompt:
                row += word_ids(words, part) if isinstance(part, str) else layout.picture(next(codes))
            rows.append(row)
        return rows

    def _codes(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """[N, P] on the CPU."""
        found = [torch.zeros(0, self.module.layout.length, dtype=torch.int64)]
        for some in batches(visuals, PREDICTION_BATCH):
            pixels = self.pixels(some)
            found.append(codes_of(self.module.tokenizer, pixels.to(self.device)).cpu())
        return torch.cat(found)

    def pixels(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Pictures as the model takes them."""
        if isinstance(visuals, Tensor):
            return visuals
        if isinstance(visuals[0], Tensor):
            return torch.stack(list(visuals))
        return self.processor.pixels(visuals)

    def _before_pictures(self, texts: Sequence[str]) -> list[list[int]]:
        return [[*row, self.module.layout.begin] for row in self.rows([[text] for text in texts])]

    def require_room(self, rows: Sequence[Sequence[int]], more: int) -> None:
        """Raises TextTooLong where rows and some tokens more do not fit the context."""
        longest = max((len(row) for row in rows), default=0) + more
        if longest > self.module.context:
            raise TextTooLong(
                f"a document of {longest} tokens does not fit the {self.module.context} that do: shorten it"
            )

    def decoder(self, rows: Sequence[list[int]], forbidden: Sequence[int] = ()) -> Decoder:
        """Of the whole vocabulary after the rows; where tokens are forbidden, codes are too."""
        module = self.module

        def logits(states_ND: Tensor) -> Tensor:
            found_NV = module.logits(states_ND)
            if not forbidden:
                return found_NV
            never = [*forbidden, *module.layout.no_words]
            return found_NV.index_fill(-1, torch.tensor(never, device=found_NV.device), -torch.inf)

        return TrunkDecoder(module.trunk, module.embed, logits, rows, module.context, self.device)
