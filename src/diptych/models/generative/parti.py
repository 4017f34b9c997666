"""Parti: a text is read by an encoder, a picture's codes are written by a decoder, and the best of several is kept.

Yu et al. 2022, "Scaling Autoregressive Models for Content-Rich Text-to-Image Generation", arXiv 2206.10789. A
bidirectional text encoder; a causal decoder with cross-attention over the codes of a frozen image tokenizer (ViT-VQGAN)
in raster order; mean cross-entropy over the codes. A tenth of the texts is "", so that sampling can be guided: l_u + w
(l_c - l_u). Of several pictures the one is kept whose embedding is nearest to the text's in a contrastive model.

Departures: pre-norm blocks with learned rows and columns; no stage that enlarges the pictures.

B batch, N rows, P codes of a picture, T text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import OWN_WAY, Likelihood
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part
from diptych.core.sample import Sample
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import hash_to_int
from diptych.core.task import Task
from diptych.core.visual import Image
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer
from diptych.decoding.decoder import Decoder
from diptych.decoding.guidance import guided
from diptych.decoding.trunk_decoder import TrunkDecoder
from diptych.decoding.write import write
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.quantizer import QuantizerConfig
from diptych.models._batches import batches, seeded_batches
from diptych.models._check_texts import check_texts
from diptych.models._image_text_predictor import ImageTextPredictor
from diptych.models.contrastive import clip
from diptych.models.generative._caption_dropout import with_dropped
from diptych.models.generative._parti_module import Config, EncodedText, Parti
from diptych.models.generative._picture_codes import VqPictures, codes_of
from diptych.models.generative._prompts import check_lengths, check_prompts
from diptych.models.image_tokenizer import vq
from diptych.models.image_tokenizer._picture_predictor import images_of
from diptych.objectives.autoregressive import next_token_loss, token_log_probabilities

__all__ = ["Config", "Parti", "PartiPredictor", "PartiTask"]

VERBS = ("generate_image", "image_likelihood")
READS = ()

PREDICTION_BATCH = 64


class PartiTask(Task[ImageTextBatch]):
    """The cross-entropy of a picture's codes, told its text; tokenizer and reranker stay as they are given."""

    processor: ImageTextProcessor

    def __init__(
        self, config: Config, processor: ImageTextProcessor, tokenizer: Mapping[str, Tensor] | None = None,
        reranker: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            tokenizer, reranker: weights of the frozen parts; None leaves them random.
        """
        super().__init__()
        self.config = config
        self.processor = processor
        self.model = PartiPredictor.build(config, processor)
        if tokenizer is not None:
            self.model.tokenizer.load_state_dict(tokenizer)
        if reranker is not None and self.model.reranker is not None:
            self.model.reranker.load_state_dict(reranker)

    def losses(self, batch: ImageTextBatch, phase: str = "main") -> Losses:
        model = self.model
        codes_BP = codes_of(model.tokenizer, batch.pixels_BCHW)
        told = with_dropped(batch, self.processor.tokenizer, self.config.drop)
        states_BPD = model(codes_BP, model.read(*told))
        loss = next_token_loss(states_BPD, codes_BP, model.logits).cross_entropy
        return {"codes": Part(loss, codes_BP.numel())}

    def counts(self, batch: ImageTextBatch, phase: str = "main") -> dict[str, float]:
        rows, columns = self.config.codes.grid()
        return {"codes": batch.num_samples * rows * columns}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.model.tokenizer.eval()
        return self

    def checkpoint_activations(self, on: bool) -> None:
        self.model.decoder.checkpointing = on

    def predictor(self) -> PartiPredictor:
        return PartiPredictor(self.config, self.processor, self.model, "parti")


class PartiPredictor(ImageTextPredictor[Config, Parti]):
    """Writes pictures, and says how likely one is for a text."""

    VERBS = VERBS
    CONFIG = Config
    likelihood_is = "exact over the picture's codes"

    @torch.inference_mode()
    def generate_image(
        self, texts: Sequence[str], seeds: int | Sequence[int] = 0, sampling: ImageSampling = OWN_WAY
    ) -> list[Image]:
        """A picture of each text; with `candidates` the best of so many, by the contrastive model.

        Raises:
            DiptychError: a prompt has no words.
            TextTooLong: a prompt does not fit the model's context.
            ConfigError: not one seed a text, candidates without a model that ranks, or a setting of diffusion.
        """
        drawn = seeded_batches(texts, seeds, "texts", max(1, PREDICTION_BATCH // sampling.candidates))
        check_prompts(texts, self.processor)
        if sampling.steps:
            raise ConfigError(f"steps {sampling.steps} are of diffusion, and this model writes codes: leave them out")
        if sampling.candidates > 1 and self.module.reranker is None:
            raise ConfigError(
                f"candidates {sampling.candidates}: this model was trained without a reranker, so nothing says which "
                f"is best: leave it at 1, or train with model.reranker"
            )
        made: list[Image] = []
        for some, own in drawn:
            made += images_of(self._best(some, own, sampling))
        return made

    def _best(self, texts: Sequence[str], seeds: Sequence[int], sampling: ImageSampling) -> Tensor:
        """Pixels [N, 3, H, W] in [0, 1]; the first candidate is the one of no ranking."""
        count = sampling.candidates
        rows = [
            (text, hash_to_int("candidate", seed, at) if at else seed)
            for text, seed in zip(texts, seeds, strict=True)
            for at in range(count)
        ]
        pixels = self._written([text for text, _ in rows], [seed for _, seed in rows], sampling)
        if count == 1:
            return pixels
        ranks = self.ranks(pixels, [text for text, _ in rows]).view(len(texts), count)
        best_N = ranks.argmax(1) + torch.arange(len(texts)) * count
        return pixels[best_N.to(pixels.device)]

    def ranks(self, pixels_NCHW: Tensor, texts: Sequence[str]) -> Tensor:
        """The cosine [N] of each picture, values in [0, 1], and its text in the contrastive model, on the CPU."""
        reranker = self.module.reranker
        assert reranker is not None, "asked for by who has one"
        pictures = reranker.encode_image((pixels_NCHW * 255).round().to(torch.uint8))
        said = reranker.encode_text(*(part.to(self.device) for part in self.processor.tokens(texts)))
        return (pictures * said).sum(1).float().cpu()

    def _written(self, texts: Sequence[str], seeds: Sequence[int], sampling: ImageSampling) -> Tensor:
        rows, columns = self.config.codes.grid()
        weight = self.config.guidance if sampling.guidance is None else sampling.guidance
        told = self._decoder(texts) if weight else None
        without = self._decoder([""] * len(texts)) if weight != 1 else None
        decoder = without if told is None else guided(told, without, weight)
        assert decoder is not None
        words = sampling.of_codes(rows * columns, self.config.temperature)
        room = [rows * columns] * len(texts)
        codes = write(decoder, room, words, (), seeds if words.temperature else ())
        codes_Nhw = torch.tensor(codes, device=self.device).view(len(texts), rows, columns)
        return self.module.tokenizer.decode(codes_Nhw)

    def _decoder(self, texts: Sequence[str]) -> Decoder:
        module, read = self.module, self._read(texts)
        rows, columns = self.config.codes.grid()
        starts = [[module.start]] * len(texts)
        return TrunkDecoder(module.decoder, module.embed, module.logits, starts, rows * columns + 1, self.device, *read)

    def _read(self, texts: Sequence[str]) -> EncodedText:
        return self.module.read(*(part.to(self.device) for part in self.processor.tokens(texts)))

    @torch.inference_mode()
    def image_likelihood(self, texts: Sequence[str | None], visuals: Sequence[Any] | Tensor) -> Likelihood:
        """log p(codes of visual i | text i); where the text is None, of no text.

        Raises:
            DiptychError: not one text a visual.
            TextTooLong: a text does not fit.
        """
        same_length(visuals, texts, Verb.IMAGE_LIKELIHOOD)
        said = [text or "" for text in texts]
        check_lengths(said, self.processor)
        module, sums = self.module, [torch.zeros(0, dtype=torch.float64)]
        for some, words in zip(batches(visuals, PREDICTION_BATCH), batches(said, PREDICTION_BATCH), strict=True):
            pixels = some if isinstance(some, Tensor) else self.processor.pixels(some)
            codes_NP = codes_of(module.tokenizer, pixels.to(self.device))
            states_NPD = module(codes_NP, self._read(words))
            sums.append(token_log_probabilities(module.logits(states_NPD), codes_NP).sum(1).cpu())
        rows, columns = self.config.codes.grid()
        return Likelihood(torch.cat(sums), torch.full((len(said),), rows * columns, dtype=torch.int64))

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> Parti:
        """The module with fresh weights.

        Raises:
            ConfigError: captions, words or pictures do not fit the sizes.
        """
        settings = processor.config
        check_texts(config.text, settings.text, processor.tokenizer)
        if settings.image.size != config.codes.image_size:
            raise ConfigError(
                f"pictures of {settings.image.size} pixels do not fit codes of pictures of {config.codes.image_size}"
            )
        return Parti(config)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, PartiTask]:
    """With and without a contrastive model that ranks, at their smallest; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    image = ImagePreprocessing(32, mean=vq.MEAN, std=vq.STD, views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(128)), tokenizer)
    small = vq.Config(
        AutoencoderConfig((16,), blocks=1, latent=16, groups=8, attention=False, patch=8), QuantizerConfig(16, 8)
    )
    sizes = Config.tiny(VqPictures(tokenizer=small, image_size=32), tokenizer.vocab_size)
    sizes = replace(sizes, text=replace(sizes.text, context=128))
    towers = clip.Config.tiny(tokenizer.vocab_size, 32)
    ranked = replace(sizes, reranker=replace(towers, text=replace(towers.text, context=128)))
    return {"plain": PartiTask(sizes, processor), "ranked": PartiTask(ranked, processor)}
