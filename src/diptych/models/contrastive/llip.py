"""Llip: a caption mixes the picture's tokens before the two are compared.

Lavoie et al. 2024, "Modeling Caption Diversity in Contrastive Vision-Language Pretraining", arXiv 2405.00740. A picture
can be captioned in many ways, and one vector has to please them all. Here the vision tower ends in K mixture tokens,
each projected by matrices of its own to a key and a value; the caption's query attends over the K keys, and what it
mixes from the values is the picture's vector for this caption alone (`objectives.llip` has the equation). The loss is
SigLIP's on these vectors, between every picture and every caption of the batch.

Departures: the paper's towers are MetaCLIP's, ours are our CLIP's; layer norms on keys, queries and values, which the
authors add for their largest models, are left out.

B batch, N pictures, M captions, K mixture tokens (kept patches where it follows `kept`), T tokens, W a tower's width,
E joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.capabilities.derive import same_length
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.task import Features, PairwiseTask
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.token_projection import TokenProjection
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive._check_fit import check_fit, check_one_positive, check_options
from diptych.models.contrastive._options import PairOptions
from diptych.models.contrastive._two_towers import (
    TwoTowerPredictor,
    TwoTowers,
    TwoTowerTask,
)
from diptych.objectives.contrastive import SIGLIP_BIAS_INIT, SIGLIP_SCALE_INIT
from diptych.objectives.llip import Mixing, llip_cosines, llip_loss
from diptych.objectives.strips import with_negatives

VERBS = ("encode_image", "encode_text", "score", "score_pairs")


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes of both towers and of the mixing.

    Attributes:
        vision: its `class_tokens` are the K mixture tokens; with one of them the model is a SigLIP whose picture does
            not listen.
        width: E, of the joint space.
        heads: of the mixing; they divide the width.
        temperature: divides key . query (5 in the paper's runs; 1 for L/14).
    """

    vision: VisionConfig = field(
        default_factory=lambda: VisionConfig(patch_size=16, pre_norm=True, patch_bias=False, eps=1e-5, class_tokens=32)
    )
    text: TextConfig = field(default_factory=TextConfig)
    width: int = 512
    heads: int = 8
    temperature: float = 5.0

    def __post_init__(self) -> None:
        if self.vision.pooling != "cls":
            raise ConfigError(f"Llip mixes class tokens, which pooling '{self.vision.pooling}' has none of: take 'cls'")
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"a joint width of {self.width} does not divide into {self.heads} heads")
        if self.temperature <= 0:
            raise ConfigError(f"temperature {self.temperature} must be positive; a large one mixes uniformly")

    @classmethod
    def vit_b16(cls) -> Config:
        """ViT-B/16 at 224 pixels with 32 mixture tokens."""
        return cls()

    @classmethod
    def tiny(cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8) -> Config:
        """Trains on a CPU in about a minute."""
        vision = VisionConfig(
            image_size, patch_size, 96, 3, 3, 384, pre_norm=True, patch_bias=False, eps=1e-5, class_tokens=8
        )  # fmt: skip
        return cls(vision, TextConfig(vocab_size, context=64, width=96, depth=3, heads=3, hidden=384), 64, heads=4)

    def with_vocabulary(self, size: int) -> Config:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))

    @property
    def mixing(self) -> Mixing:
        """How a caption mixes."""
        return Mixing(self.temperature, self.heads)


class Llip(TwoTowers):
    """Two towers; keys and values of the mixture tokens, the query and the vector of a caption; scale and bias."""

    def __init__(self, config: Config, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(config.vision, config.text, mean, std)
        tokens, width = config.vision.class_tokens, config.width
        self.key = TokenProjection(tokens, config.vision.width, width)
        self.value = TokenProjection(tokens, config.vision.width, width)
        self.query = nn.Linear(config.text.width, width, bias=False)
        self.text_head = nn.Linear(config.text.width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        for linear in (self.query, self.text_head, self.out):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(SIGLIP_SCALE_INIT))
        self.bias = nn.Parameter(torch.tensor(SIGLIP_BIAS_INIT))

    def encode_image(self, pixels_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """Keys and values of the mixture tokens, side by side [B, K, 2E]: all that a caption needs of a picture."""
        tokens_BKW = self.patch_tower.class_tokens(self.normalise(pixels_BCHW), kept_BK)
        return torch.cat([self.key(tokens_BKW), self.value(tokens_BKW)], dim=-1)

    def encode_text(self, tokens_BT: Tensor, lengths_B: Tensor, places_BT: Tensor | None = None) -> Tensor:
        """Query and unit vector of each caption, side by side [B, 2E]."""
        x_BW = self.read_text(tokens_BT, lengths_B, places_BT)
        return torch.cat([self.query(x_BW), F.normalize(self.text_head(x_BW), dim=-1)], dim=-1)

    def uniform(self, image_BKE: Tensor) -> Tensor:
        """Unit vectors [B, E] of what `encode_image` returned, all tokens mixed alike: what no caption asks for."""
        _, value_BKE = image_BKE.chunk(2, dim=-1)
        return F.normalize(self.out(value_BKE.mean(1)), dim=-1)


class LlipTask(TwoTowerTask, PairwiseTask[ImageTextBatch]):
    """SigLIP's loss on text-conditioned picture vectors; the captions may travel round a ring."""

    model: Llip

    def __init__(self, config: Config, processor: ImageTextProcessor, options: PairOptions | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.options = options or PairOptions()
        self.model = LlipPredictor.build(config, processor)
        check_options(self.options, config.vision, config.text)
        check_one_positive(self.options)
        self.travelling = ("text", "negative", "wanted") if processor.config.text.negatives else ("text",)

    def pair_losses(self, here: Features, there: Features, own: bool, phase: str = "main") -> Losses:
        text_ME = with_negatives(there["text"], there.get("negative"), there.get("wanted"))
        (key_NKE, value_NKE), (query_ME, unit_ME) = here["image"].chunk(2, dim=-1), text_ME.chunk(2, dim=-1)
        scale, bias, out_EE = self.model.log_scale.exp(), self.model.bias, self.model.out.weight
        loss = llip_loss(key_NKE, value_NKE, query_ME, unit_ME, out_EE, scale, bias, self.config.mixing, own)
        pairs = len(key_NKE)
        return {"contrastive": Part(loss * pairs, pairs, scope=Scope.GLOBAL_BATCH)}

    def summary(self) -> dict[str, float]:
        return {"scale": float(self.model.log_scale.detach().exp()), "bias": float(self.model.bias.detach())}

    def predictor(self) -> LlipPredictor:
        return LlipPredictor(self.config, self.processor, self.model, "llip")


class LlipPredictor(TwoTowerPredictor):
    """Scores pictures with texts that mix them; its score is the log-odds that they belong together."""

    VERBS = VERBS
    CONFIG = Config
    ranks_by_cosine = False
    config: Config
    module: Llip

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> Llip:
        check_fit(config.vision, config.text, processor)
        return Llip(config, processor.config.image.mean, processor.config.image.std)

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, E] of the uniform mixture of a picture's tokens: for probes; no caption is scored by it."""
        image_NKE = super().encode_image(visuals)
        return self.module.uniform(image_NKE.to(self.device)).float().cpu() if len(image_NKE) else image_NKE

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [M, E] on the CPU, without the queries."""
        return super().encode_text(texts)[..., self.config.width :]

    @torch.inference_mode()
    def score(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """Log-odds [N, M], calibrated by training: comparable over texts and visuals.

        Each picture and each text is encoded once; the pairs are mixed in tiles.
        """
        image_NKE, text_ME = super().encode_image(visuals), super().encode_text(texts)
        if not (len(image_NKE) and len(text_ME)):
            return torch.zeros(len(image_NKE), len(text_ME))
        return self._log_odds(image_NKE.to(self.device), text_ME.to(self.device)).cpu()

    @torch.inference_mode()
    def score_pairs(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """Log-odds [N] of visual i with text i."""
        same_length(visuals, texts)
        image_NKE, text_NE = super().encode_image(visuals).to(self.device), super().encode_text(texts).to(self.device)
        rows = [self._log_odds(image_NKE[i : i + 1], text_NE[i : i + 1])[0] for i in range(len(texts))]
        return torch.cat(rows).cpu() if rows else torch.zeros(0)

    def _log_odds(self, image_NKE: Tensor, text_ME: Tensor) -> Tensor:
        (key_NKE, value_NKE), (query_ME, unit_ME) = image_NKE.chunk(2, dim=-1), text_ME.chunk(2, dim=-1)
        cosine_NM = llip_cosines(key_NKE, value_NKE, query_ME, unit_ME, self.module.out.weight, self.config.mixing)
        return self.module.log_scale.exp() * cosine_NM + self.module.bias


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, LlipTask]:
    """Its one task at its smallest, with a tokenizer fitted to the samples: for contract tests and trials."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    config = Config.tiny(tokenizer.vocab_size, image_size=32)
    return {"contrastive": LlipTask(config, ImageTextProcessor(settings, tokenizer))}
