"""SigLIP: two towers and a yes-or-no question for every pair.

Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343. Like CLIP up to the loss: each of
the N x N pairs of a batch is classified on its own, with a learned scale and bias, so that nothing is normalised over
the batch. The vision tower is read by attention pooling, the text tower is bidirectional and read at its last token.

Departures: our own recipes ignore padding (a text's vector does not depend on it); the released weights, which were
trained to read constant padding, keep it.

B batch, N pairs, M texts, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.capabilities.load import folder_of
from diptych.core.config import ModelConfig
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
from diptych.layers.transformer import Activation
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive._check_fit import check_fit, check_one_positive, check_options
from diptych.models.contrastive._export import write_siglip
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.models.contrastive._public import read_siglip
from diptych.models.contrastive._two_towers import (
    TwoTowerPredictor,
    TwoTowers,
    TwoTowerTask,
)
from diptych.objectives.contrastive import SIGLIP_BIAS_INIT, SIGLIP_SCALE_INIT, sigmoid_loss

VERBS = ("encode_image", "encode_text", "score")
READS = ("SiglipModel", "open_clip/siglip")

_GELU = Activation.GELU_TANH


def _vision(patch_size: int) -> VisionConfig:
    return VisionConfig(patch_size=patch_size, pooling="map", activation=_GELU)


def _text() -> TextConfig:
    return TextConfig(
        32000, 64, 768, 12, 12, 3072, causal=False, padding="constant", activation=_GELU, eps=1e-6
    )  # fmt: skip


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes of both towers; the joint space is as wide as the vision tower."""

    vision: VisionConfig = field(default_factory=lambda: _vision(16))
    text: TextConfig = field(default_factory=_text)

    @classmethod
    def vit_b16(cls) -> Config:
        """ViT-B/16 at 224 pixels: 203 M parameters with its vocabulary of 32,000."""
        return cls()

    @classmethod
    def tiny(cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8) -> Config:
        """Trains on a CPU in about a minute."""
        vision = VisionConfig(
            image_size, patch_size, width=96, depth=3, heads=3, hidden=384, pooling="map", activation=_GELU
        )
        text = TextConfig(vocab_size, 64, 96, 3, 3, 384, causal=False, activation=_GELU, eps=1e-6)
        return cls(vision, text)

    def with_vocabulary(self, size: int) -> Config:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))


class Siglip(TwoTowers):
    """Two towers, a head on the text's side, the log of the scale and the bias."""

    def __init__(self, config: Config, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(config.vision, config.text, mean, std)
        self.image_head = nn.Identity()
        self.text_head = nn.Linear(config.text.width, config.vision.width)
        self.log_scale = nn.Parameter(torch.tensor(SIGLIP_SCALE_INIT))
        self.bias = nn.Parameter(torch.tensor(SIGLIP_BIAS_INIT))


class SiglipTask(TwoTowerTask, PairwiseTask[ImageTextBatch]):
    """The pairwise sigmoid loss over the global batch; texts and their hard negatives may travel round a ring."""

    model: Siglip

    def __init__(self, config: Config, processor: ImageTextProcessor, options: PairOptions | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.options = options or PairOptions()
        self.model = SiglipPredictor.build(config, processor)
        check_options(self.options, config.vision, config.text)
        check_one_positive(self.options)
        self.travelling = ("text", "negative", "wanted") if processor.config.text.negatives else ("text",)

    def pair_losses(self, here: Features, there: Features, own: bool, phase: str = "main") -> Losses:
        pairs, hard = len(here["image"]), (there.get("negative"), there.get("wanted"))
        scale, bias = self.model.log_scale.exp(), self.model.bias
        loss = sigmoid_loss(here["image"], there["text"], scale, bias, own, *hard)
        return {"contrastive": Part(loss * pairs, pairs, scope=Scope.GLOBAL_BATCH)}

    def summary(self) -> dict[str, float]:
        return {"scale": float(self.model.log_scale.detach().exp()), "bias": float(self.model.bias.detach())}

    def predictor(self) -> SiglipPredictor:
        return SiglipPredictor(self.config, self.processor, self.model, "siglip")


class SiglipPredictor(TwoTowerPredictor):
    """Encodes pictures and strings; its score is the log-odds that they belong together."""

    VERBS = VERBS
    CONFIG = Config
    config: Config
    module: Siglip

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> Siglip:
        check_fit(config.vision, config.text, processor)
        return Siglip(config, processor.config.image.mean, processor.config.image.std)

    @torch.inference_mode()
    def score(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """Log-odds [N, M], calibrated by training: comparable over texts and visuals."""
        scale, bias = self.module.log_scale.exp().float().cpu(), self.module.bias.float().cpu()
        return scale * self.encode_image(visuals) @ self.encode_text(texts).T + bias


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, SiglipTask]:
    """The plain task and one with its options at their smallest, with a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    plain = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    hard = replace(plain, text=replace(plain.text, negatives=("replace_attribute", "order")))
    config = Config.tiny(tokenizer.vocab_size, image_size=32)
    options = PairOptions(Masking(0.5, 0.3))
    return {
        "contrastive": SiglipTask(config, ImageTextProcessor(plain, tokenizer)),
        "masked": SiglipTask(config, ImageTextProcessor(hard, tokenizer), options),
    }


def weights_from(reference: str | Path) -> SiglipPredictor:
    """SigLIP weights of a `transformers` or open_clip folder or hub id, with preprocessing and tokenizer.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
    """
    folder = folder_of(reference)
    public = read_siglip(folder)
    assert isinstance(public.vision, VisionConfig), "no SigLIP has a ResNet"
    config = Config(public.vision, public.text)
    module = SiglipPredictor.build(config, public.processor)
    public.fill(module, folder)
    return SiglipPredictor(config, public.processor, module, folder.name)


def export_to(predictor: SiglipPredictor, folder: Path) -> None:
    """Writes a `transformers` SiglipModel folder.

    Raises:
        ConfigError: the model has a part that SiglipModel does not.
    """
    write_siglip(predictor, folder, predictor.config.vision, predictor.config.text)
