"""CLIP: two towers and a softmax over the batch.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020. A vision
transformer, or a ResNet, and a causal text transformer each map to one unit vector; a symmetric InfoNCE over the whole
global batch, at a learned and clamped scale, draws the two vectors of a pair together and all others apart.

Departures: texts are padded to the batch's longest instead of 77 (the mask makes that exact); GELU by default
(QuickGELU where OpenAI's weights need it).

B batch, N pairs, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from diptych.capabilities.load import folder_of
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.task import Features
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.modified_resnet import ResNetConfig
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive._check_fit import check_fit, check_options
from diptych.models.contrastive._export import write_clip
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.models.contrastive._public import read_clip
from diptych.models.contrastive._two_towers import (
    TwoTowerPredictor,
    TwoTowers,
    TwoTowerTask,
)
from diptych.objectives.contrastive import CLIP_SCALE_INIT, CLIP_SCALE_MAX, info_nce
from diptych.objectives.multi_positive import multi_positive_pairs

VERBS = ("encode_image", "encode_text")
READS = ("CLIPModel", "open_clip/clip")


def _vision(patch_size: int) -> VisionConfig:
    return VisionConfig(patch_size=patch_size, pre_norm=True, patch_bias=False, eps=1e-5)


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes of both towers.

    Attributes:
        vision: of a vision transformer or of CLIP's own kind of ResNet.
        width: of the joint space.
    """

    vision: VisionConfig | ResNetConfig = field(default_factory=lambda: _vision(32))
    text: TextConfig = field(default_factory=TextConfig)
    width: int = 512

    @classmethod
    def vit_b32(cls) -> Config:
        """ViT-B/32 at 224 pixels: 151 M parameters."""
        return cls()

    @classmethod
    def vit_b16(cls) -> Config:
        """ViT-B/16 at 224 pixels: 150 M parameters."""
        return cls(_vision(16))

    @classmethod
    def vit_l14(cls) -> Config:
        """ViT-L/14 at 224 pixels: 428 M parameters."""
        vision = replace(_vision(14), width=1024, depth=24, heads=16, hidden=4096)
        return cls(vision, TextConfig(width=768, heads=12, hidden=3072), width=768)

    @classmethod
    def rn50(cls) -> Config:
        """The ResNet-50 of the paper at 224 pixels: 102 M parameters."""
        return cls(ResNetConfig(), width=1024)

    @classmethod
    def tiny(cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8) -> Config:
        """Trains on a CPU in about a minute."""
        vision = VisionConfig(
            image_size, patch_size, width=96, depth=3, heads=3, hidden=384, pre_norm=True, patch_bias=False, eps=1e-5
        )
        return cls(vision, TextConfig(vocab_size, context=64, width=96, depth=3, heads=3, hidden=384), width=64)

    def with_vocabulary(self, size: int) -> Config:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))


class Clip(TwoTowers):
    """Two towers, a projection each, and the log of the scale; a ResNet's projection has a bias, others have none."""

    def __init__(self, config: Config, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(config.vision, config.text, mean, std)
        resnet = isinstance(config.vision, ResNetConfig)
        self.image_head = nn.Linear(config.vision.width, config.width, bias=resnet)
        self.text_head = nn.Linear(config.text.width, config.width, bias=False)
        for head in (self.image_head, self.text_head):
            nn.init.normal_(head.weight, std=head.in_features**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(CLIP_SCALE_INIT))


class ClipTask(TwoTowerTask):
    """Symmetric InfoNCE over the global batch."""

    model: Clip

    def __init__(self, config: Config, processor: ImageTextProcessor, options: PairOptions | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.options = options or PairOptions()
        self.model = ClipPredictor.build(config, processor)
        check_options(self.options, config.vision, config.text)
        self.divisible = not isinstance(config.vision, ResNetConfig)

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        pairs, scale = len(features["image"]), self.model.log_scale.exp()
        sides, hard = (features["image"], features["text"]), (features.get("negative"), features.get("wanted"))
        if self.options.same_text:
            loss = multi_positive_pairs(*sides, features["caption"], scale, *hard)
        else:
            loss = info_nce(*sides, scale, *hard)
        return {"contrastive": Part(loss * pairs, pairs, scope=Scope.GLOBAL_BATCH)}

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps the scale in [1, 100] (section 2.5 of the paper)."""
        self.model.log_scale.clamp_(0, CLIP_SCALE_MAX)

    def summary(self) -> dict[str, float]:
        return {"scale": float(self.model.log_scale.detach().exp())}

    def predictor(self) -> ClipPredictor:
        return ClipPredictor(self.config, self.processor, self.model, "clip")


class ClipPredictor(TwoTowerPredictor):
    """Encodes pictures and strings; its score is their cosine."""

    VERBS = VERBS
    CONFIG = Config
    config: Config
    module: Clip

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor) -> Clip:
        check_fit(config.vision, config.text, processor)
        return Clip(config, processor.config.image.mean, processor.config.image.std)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, ClipTask]:
    """The plain task, one with its options and one on a ResNet at their smallest; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    plain = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    hard = replace(plain, text=replace(plain.text, negatives=("replace_attribute", "order")))
    config = Config.tiny(tokenizer.vocab_size, image_size=32)
    resnet = replace(config, vision=ResNetConfig(32, stem=8, blocks=(1, 1, 1, 1), heads=4))

    def task(config: Config, settings: ImageTextConfig, options: PairOptions | None = None) -> ClipTask:
        return ClipTask(config, ImageTextProcessor(settings, tokenizer), options)

    return {
        "contrastive": task(config, plain),
        "masked": task(config, hard, PairOptions(Masking(0.5, 0.3), same_text=True)),
        "resnet": task(resnet, plain),
    }


def weights_from(reference: str | Path) -> ClipPredictor:
    """CLIP weights of a `transformers` or open_clip folder or hub id, with preprocessing and tokenizer.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder's architecture has a part that is not here (timm's tower).
    """
    folder = folder_of(reference)
    public = read_clip(folder)
    config = Config(public.vision, public.text, public.width)
    module = ClipPredictor.build(config, public.processor)
    public.fill(module, folder)
    return ClipPredictor(config, public.processor, module, folder.name)


def export_to(predictor: ClipPredictor, folder: Path) -> None:
    """Writes a `transformers` CLIPModel folder.

    Raises:
        ConfigError: the model has a part that CLIPModel does not.
    """
    config = predictor.config
    if isinstance(config.vision, ResNetConfig):
        raise ConfigError("transformers' CLIPModel has no ResNet tower: a run's own folder is what there is to share")
    write_clip(predictor, folder, config.vision, config.text, config.width)
