"""MiniGPT-5's predictor: texts, pictures by the vokens that are said for them, and documents of both.

N pictures, K vokens, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from diptych.capabilities.generator import GREEDY, OWN_WAY, Prompt
from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError, TextTooLong
from diptych.core.losses import IGNORED
from diptych.core.sample import Turn
from diptych.core.sampling import ImageSampling, TextSampling
from diptych.core.seeding import hash_to_int
from diptych.core.visual import Image
from diptych.data.batches.conversation_reader import ConversationConfig, ConversationTokens
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.decoding.write import write
from diptych.layers.backbone_folder import backbone_from_config
from diptych.models._batches import seeded_batches
from diptych.models.generative import stable_diffusion
from diptych.models.generative._diffusion_predictor import SAMPLED, require_diffusion
from diptych.models.generative._latent_module import Told
from diptych.models.generative._prompts import check_words
from diptych.models.image_tokenizer._picture_predictor import images_of
from diptych.models.pretrained_backbone._conversation_predictor import ConversationPredictor
from diptych.models.pretrained_backbone._language_folder import language_from_config
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._templates import read_saved, write_saved
from diptych.models.pretrained_backbone._voken_module import Config, VokenModel, build
from diptych.models.pretrained_backbone._voken_rows import VokenProcessor
from diptych.models.pretrained_backbone._vokens import VokenGrammar


class VokenPredictor(ConversationPredictor[Config]):
    """Talks about pictures, draws them, and goes on with documents of both."""

    module: VokenModel

    def __init__(self, config: Config, processor: VokenProcessor, module: VokenModel, name: str) -> None:
        super().__init__(config, processor.talk, module, name)
        self.drawing = processor.drawing
        self.painter = stable_diffusion.StableDiffusionPredictor(
            config.diffusion, processor.drawing, module.diffusion, name
        )  # fmt: skip

    @torch.inference_mode()
    def generate_image(
        self, texts: Sequence[str], seeds: int | Sequence[int] = 0, sampling: ImageSampling = OWN_WAY
    ) -> list[Image]:
        """A picture of each text, whose vokens are said at once.

        Raises:
            DiptychError: a prompt has no words.
            TextTooLong: a prompt and a picture do not fit.
            ConfigError: not one seed a text, or a setting of token models.
        """
        drawn = seeded_batches(texts, seeds, "texts", SAMPLED)
        check_words(texts)
        require_diffusion(sampling)
        made: list[Image] = []
        for some, own in drawn:
            made += images_of(self.pictures(self.voken_states(some), own, sampling))
        return made

    @torch.inference_mode()
    def voken_states(self, texts: Sequence[str]) -> Tensor:
        """[N, K, D] of what is meant by the pictures of texts.

        Raises:
            TextTooLong: a text and a picture do not fit.
        """
        asked = self.processor.config.prompt
        read = [self._read([Turn("user", f"{asked} {text}".strip())], 0, opens=True) for text in texts]
        vokens = self.module.language.ids()
        return self.module.voken_states(self.said([self._followed(one, vokens) for one in read], []))

    @torch.inference_mode()
    def pictures(self, states_NKD: Tensor, seeds: Sequence[int], sampling: ImageSampling = OWN_WAY) -> Tensor:
        """Pixels [N, 3, H, W] in [0, 1] of what is meant."""
        weight, mapper = self.painter.weight(sampling), self.module.mapper
        nothing = mapper.nothing(len(states_NKD), self.config.vokens)
        streams = [mapper(states_NKD)] if weight == 1 else [nothing] if weight == 0 else [mapper(states_NKD), nothing]
        return self.painter.painted(Told(torch.cat(streams), None), weight, seeds, sampling)

    @torch.inference_mode()
    def continue_document(self, parts: Prompt, sampling: TextSampling = GREEDY, seed: int = 0) -> list[str | Image]:
        """Texts and pictures after the parts, until the model ends; every picture is whole or left out.

        Raises:
            TextTooLong: the parts do not fit the model's context.
            ConfigError: beams, which do not know the order of vokens.
        """
        if sampling.beams > 1:
            raise ConfigError(
                f"{sampling.beams} beams: documents with pictures are written token by token, leave it at 1"
            )
        language, read = self.module.language, self._opened(parts)
        shown, room = [part for part in parts if not isinstance(part, str)], self._most()
        decoder = language.decoder(self._vectors([read], shown), room, language)
        grammar = VokenGrammar(language.first, language.count, 1)
        draws = [seed] if sampling.temperature else []
        ends = [self.processor.tokenizer.end_id]
        (tokens,) = write(decoder, [room - len(read.tokens)], sampling, ends, draws, grammar)
        pieces = self._pieces(tokens)
        return self._written_parts(
            self._followed(read, [token for piece in pieces for token in piece]), shown, pieces, seed
        )

    def _pieces(self, tokens: Sequence[int]) -> list[list[int]]:
        """Runs of words and whole pictures of vokens, in order; a picture that was cut off is left out."""
        first, count, found = self.module.language.first, self.config.vokens, list[list[int]]()
        for token in tokens:
            if not found or token == first or (found[-1][0] >= first) != (token >= first):
                found.append([])
            found[-1].append(token)
        return [piece for piece in found if piece[0] < first or len(piece) == count]

    def _written_parts(
        self, read: ConversationTokens, shown: Sequence[Any], pieces: Sequence[list[int]], seed: int
    ) -> list[str | Image]:
        first, words = self.module.language.first, self.processor.tokenizer
        drawn = [piece for piece in pieces if piece[0] >= first]
        seeds = [hash_to_int("picture of a document", seed, place) for place in range(len(drawn))]
        made: list[Image] = []
        if drawn:
            made = images_of(self.pictures(self.module.voken_states(self.said([read], shown)), seeds))
        pictures = iter(made)
        parts = [next(pictures) if piece[0] >= first else words.decode(piece).strip() for piece in pieces]
        return [part for part in parts if part]

    def _followed(self, read: ConversationTokens, tokens: Sequence[int]) -> ConversationTokens:
        """A prompt and what is said after it; of its labels only vokens are of use.

        Raises:
            TextTooLong: they do not fit.
        """
        count, most = len(tokens), self._most()
        if len(read.tokens) + count > most:
            raise TextTooLong(
                f"a prompt of {len(read.tokens)} tokens leaves no room for a picture's {count} in {most}: shorten it"
            )
        labels = [token if token >= self.module.language.first else IGNORED for token in tokens]
        return read._replace(
            tokens=[*read.tokens, *tokens], labels=[*read.labels, *labels], places=[*read.places, *[False] * count]
        )

    def describe(self) -> dict[str, Any]:
        return {
            "model": to_plain(self.config),
            "processor": to_plain(self.processor.config),
            "drawing": to_plain(self.drawing.config),
        }

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        write_saved(self.processor.template, folder)
        (folder / "diffusion").mkdir(exist_ok=True)
        self.drawing.tokenizer.write(folder / "diffusion" / "tokenizer.json")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        told = from_plain(ConversationConfig, description["processor"])
        drawn = from_plain(ImageTextConfig, description["drawing"])
        talk = ConversationProcessor(told, Tokenizer.read(folder / "tokenizer.json"), read_saved(folder))
        drawing = ImageTextProcessor(drawn, Tokenizer.read(folder / "diffusion" / "tokenizer.json"))
        backbone, image = backbone_from_config(folder / "tower", "vision"), told.image
        tower = PatchFeatures(backbone, False, image.mean, image.std, config.layer, config.special)
        module = build(config, talk, drawing, tower, language_from_config(folder / "language"))
        processor = VokenProcessor(talk, drawing, module.language.ids())
        return cls(config, processor, module, str(description["name"]))
