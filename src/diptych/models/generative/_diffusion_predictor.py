"""The predictor of diffusion models: sampling under guidance, the diffusion classifier, the likelihood bound.

N rows, M texts, K trials.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import OWN_WAY, Likelihood
from diptych.capabilities.verbs import Verb
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import hash_to_int
from diptych.core.visual import Image
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.decoding.diffusion_sampler import Denoise, SamplerConfig, sample
from diptych.models._batches import batches, seeded_batches
from diptych.models._image_text_predictor import ImageTextPredictor
from diptych.models.generative._diffusion_classifier import (
    ClassifierConfig,
    bound_steps,
    likelihood_bound,
    spread_steps,
    text_scores,
)
from diptych.models.generative._prompts import check_lengths, check_prompts
from diptych.models.image_tokenizer._picture_predictor import images_of
from diptych.objectives.diffusion import NoiseSchedule, Prediction, drawn_noise, noise_in, noised, squared_error

SAMPLED, JUDGED = 32, 64
"""The most rows of one pass of the network: of a sampler without guidance, and of trials."""

ConfigT = TypeVar("ConfigT", bound=ModelConfig)
ModelT = TypeVar("ModelT", bound=nn.Module)


class AboutTexts(Protocol):
    """What a network is told of texts."""

    def rows(self, places: Tensor) -> Self:
        """Some of the texts, in this order."""
        ...


ToldT = TypeVar("ToldT", bound=AboutTexts)


@dataclass(frozen=True)
class Space:
    """What is noised, and how it is asked about.

    Attributes:
        shape: of one row.
    """

    shape: tuple[int, ...]
    schedule: NoiseSchedule
    prediction: Prediction
    sampler: SamplerConfig
    classifier: ClassifierConfig
    guidance: float
    steps: int


class DiffusionPredictor(ImageTextPredictor[ConfigT, ModelT], Generic[ConfigT, ModelT, ToldT]):
    """A model that was trained to tell the noise in something, told a text.

    Attributes:
        classifier: how `score` and `image_likelihood` try texts; may be set to another one.
    """

    likelihood_is: str

    def __init__(self, config: ConfigT, processor: ImageTextProcessor, module: ModelT, name: str) -> None:
        super().__init__(config, processor, module, name)
        self.classifier = self.spaces().classifier

    @abstractmethod
    def spaces(self) -> Space:
        """Of the rows that `clean` gives."""

    @abstractmethod
    def clean(self, pixels_NCHW: Tensor) -> Tensor:
        """What uint8 or prepared pictures are without noise."""

    @abstractmethod
    def pixels(self, clean_N: Tensor) -> Tensor:
        """Pixels [N, 3, H, W] in [0, 1] of it."""

    @abstractmethod
    def tell(self, texts: Sequence[str]) -> ToldT:
        """What the network is told of texts."""

    @abstractmethod
    def say(self, noised_N: Tensor, steps_N: Tensor, told: ToldT) -> Tensor:
        """What the network says."""

    @torch.inference_mode()
    def generate_image(
        self, texts: Sequence[str], seeds: int | Sequence[int] = 0, sampling: ImageSampling = OWN_WAY
    ) -> list[Image]:
        """A picture of each text.

        Raises:
            DiptychError: a prompt has no words.
            TextTooLong: a prompt does not fit the model's context.
            ConfigError: not one seed a text, or a setting of token models.
        """
        drawn = seeded_batches(texts, seeds, "texts", SAMPLED)
        check_prompts(texts, self.processor)
        require_diffusion(sampling)
        made: list[Image] = []
        for some, own in drawn:
            made += images_of(self.pictures(some, own, sampling))
        return made

    def pictures(self, texts: Sequence[str], seeds: Sequence[int], sampling: ImageSampling) -> Tensor:
        """Pixels [N, 3, H, W] in [0, 1]."""
        weight = self.weight(sampling)
        return self.painted(self.tell(streams(texts, weight)), weight, seeds, sampling)

    def weight(self, sampling: ImageSampling) -> float:
        """Of the text against no text."""
        return self.spaces().guidance if sampling.guidance is None else sampling.guidance

    def painted(self, told: ToldT, weight: float, seeds: Sequence[int], sampling: ImageSampling) -> Tensor:
        """Pixels [N, 3, H, W] in [0, 1] of what is told, which has the rows that `streams` has for this weight.

        Raises:
            ConfigError: more steps than there are in training.
        """
        space = self.spaces()
        denoise = guided(lambda rows, steps: self.say(rows, steps, told), weight)
        betas, like = space.schedule.betas(), next(self.module.parameters())
        steps = sampling.steps or space.steps
        rows = sample(space.sampler, betas, space.prediction, denoise, space.shape, steps, seeds, like)
        return self.pixels(rows)

    @torch.inference_mode()
    def score(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """[N, M]: minus the mean error of the noise, on steps and noise that a visual's texts share.

        What of a text does not fit the context is not read, as in a contrastive model.
        """
        space, told = self.spaces(), self.tell(texts) if texts else None
        stages = self.classifier.stages
        steps = spread_steps(self.classifier.trials, space.schedule.steps)
        rows = []
        for some in batches(visuals, JUDGED):
            clean_N, seeds = self._clean(some)
            for clean, seed in zip(clean_N, seeds, strict=True):
                if told is None:
                    continue
                trial = self._trials(clean, seed, steps, told)
                rows.append(text_scores(trial, len(texts), stages))
        return torch.stack(rows).float() if rows else torch.zeros(len(visuals), len(texts))

    @torch.inference_mode()
    def image_likelihood(self, texts: Sequence[str | None], visuals: Sequence[Any] | Tensor) -> Likelihood:
        """A lower bound of log p(visual i | text i); where the text is None, of no text.

        Raises:
            DiptychError: not one text a visual.
            TextTooLong: a text does not fit.
        """
        same_length(visuals, texts, Verb.IMAGE_LIKELIHOOD)
        said = [text or "" for text in texts]
        check_lengths(said, self.processor)
        space = self.spaces()
        steps = bound_steps(self.classifier.bound, space.schedule.steps)
        bounds, kept_S = [torch.zeros(0, dtype=torch.float64)], space.schedule.kept()
        for some, words in zip(batches(visuals, JUDGED), batches(said, JUDGED), strict=True):
            clean_N, seeds = self._clean(some)
            told = self.tell(words)
            for place, (clean, seed) in enumerate(zip(clean_N, seeds, strict=True)):
                errors_1K = self._trials(clean, seed, steps, told)([place], range(len(steps)))
                bounds.append(likelihood_bound(clean[None], errors_1K, kept_S))
        numbers = int(torch.tensor(space.shape).prod())
        return Likelihood(torch.cat(bounds), torch.full((len(texts),), numbers, dtype=torch.int64))

    def _clean(self, visuals: Sequence[Any] | Tensor) -> tuple[Tensor, list[int]]:
        """What is to be noised, and a seed for each visual that depends on nothing else."""
        pixels = visuals if isinstance(visuals, Tensor) else self.processor.pixels(visuals)
        seeds = [_content_seed(one) for one in pixels.cpu()]
        return self.clean(pixels.to(self.device)), seeds

    def _trials(self, clean: Tensor, seed: int, steps: Sequence[int], told: ToldT) -> Any:
        """The errors of one visual's noise (`_diffusion_classifier.Errors`)."""
        space = self.spaces()
        kept_S = space.schedule.kept().to(clean)

        def errors(texts: Sequence[int], trials: Sequence[int]) -> Tensor:
            pairs = [(text, trial) for text in texts for trial in trials]
            found = [self._errors(clean, seed, steps, told, some, kept_S) for some in batches(pairs, JUDGED)]
            return torch.cat(found).reshape(len(texts), len(trials))

        return errors

    def _errors(
        self, clean: Tensor, seed: int, steps: Sequence[int], told: ToldT, pairs: Sequence[tuple[int, int]],
        kept_S: Tensor,
    ) -> Tensor:  # fmt: skip
        rows = clean.expand(len(pairs), *clean.shape)
        steps_R = torch.tensor([steps[trial] for _, trial in pairs], device=clean.device)
        noise = drawn_noise([hash_to_int("trial", seed, trial) for _, trial in pairs], rows)
        seen = noised(rows, noise, kept_S[steps_R])
        said = self.say(seen, steps_R, told.rows(torch.tensor([text for text, _ in pairs], device=clean.device)))
        return squared_error(noise_in(said, seen, kept_S[steps_R], self.spaces().prediction), noise)


def streams(texts: Sequence[str], weight: float) -> list[str]:
    """What a network is told under guidance: the texts, then no text; one of them alone where the weight is 1 or 0."""
    told, nothing = list(texts), [""] * len(texts)
    return told if weight == 1 else nothing if weight == 0 else [*told, *nothing]


def guided(say: Denoise, weight: float) -> Denoise:
    """e_u + w (e_c - e_u), of a network that was told `streams`; with w = 1 or 0 the other pass is not made."""
    if weight in (0, 1):
        return say

    def denoise(rows_N: Tensor, steps_N: Tensor) -> Tensor:
        told, untold = say(torch.cat([rows_N] * 2), torch.cat([steps_N] * 2)).chunk(2)
        return untold + weight * (told - untold)

    return denoise


def _content_seed(pixels: Tensor) -> int:
    """Of a picture's own numbers."""
    digest = hashlib.blake2b(pixels.contiguous().numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def require_diffusion(sampling: ImageSampling) -> None:
    """Raises a ConfigError for settings that only models of tokens have a use for."""
    if (sampling.temperature, sampling.top_k, sampling.top_p) != (None, 0, 1.0):
        raise ConfigError("temperature, top_k and top_p draw tokens, and this model has none: leave them out")
    if sampling.candidates != 1:
        raise ConfigError(
            f"candidates {sampling.candidates}: this model has nothing to rank pictures by: leave it at 1"
        )
