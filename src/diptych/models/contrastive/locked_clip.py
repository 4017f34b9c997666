"""CLIP on pretrained towers, locked or tuned: only what is trained costs anything.

Zhai et al. 2022, "LiT: Zero-Shot Transfer with Locked-image text Tuning", arXiv 2111.07991. A tower that is locked is
run once and its features cached (data/cached/feature_cache.py); a small head on each side maps features to the joint
space, and the loss is CLIP's.

Departures: LiT locks the image tower and trains the text tower whole. Here each side is locked or trained by
configuration, and the heads are MLPs on standardised features (LiT: one linear layer), which is what makes two locked
towers meet.

B batch, N pictures or texts, T tokens, F feature width, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.task import Features, GlobalTask, LocalOutput
from diptych.data.batches.features import TowerBatch, TowerProcessor, TowerTexts
from diptych.data.pixels.tower_inputs import TowerImages
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import backbone_from_config, tiny_text_backbone, tiny_vision_backbone
from diptych.layers.feature_head import FeatureHead
from diptych.layers.pretrained import ImageReadout, ImageTower, TextReadout, TextTower
from diptych.models._batches import batches
from diptych.models._model_predictor import ModelPredictor
from diptych.objectives.contrastive import CLIP_SCALE_INIT, CLIP_SCALE_MAX, info_nce

VERBS = ("encode_image", "encode_text")
READS = ()

PREDICTION_BATCH = 64


@dataclass(frozen=True)
class Config(ModelConfig):
    """The heads, and how the towers are read. The towers' own sizes are their folders'.

    Attributes:
        image_features, text_features: widths of what the towers give.
        width: of the joint space.
        hidden: of the heads' MLPs; 0 for linear heads.
        dropout, input_dropout: of a head's hidden layer and of the features it reads.
        image_readout, text_readout: which outputs of the towers are their features.
        train_image, train_text: whether a tower is trained too; a locked one may come from cached features.
        mirror_average: whether a picture's vector, when predicting, is between its own and its mirror image's. For
            data whose captions do not tell left from right.
    """

    image_features: int = 768
    text_features: int = 768
    width: int = 512
    hidden: int = 2048
    dropout: float = 0.5
    input_dropout: float = 0.3
    image_readout: ImageReadout = "pooled"
    text_readout: TextReadout = "mean"
    train_image: bool = False
    train_text: bool = False
    mirror_average: bool = False

    @classmethod
    def tiny(cls) -> Config:
        """Small heads."""
        return cls(32, 32, width=16, hidden=32, dropout=0.2, input_dropout=0.1, image_readout="mean")


class LockedClip(nn.Module):
    """Two pretrained towers, a head on each, and the log of the scale."""

    def __init__(self, config: Config, image_tower: ImageTower, text_tower: TextTower) -> None:
        super().__init__()
        self.image_tower, self.text_tower = image_tower, text_tower
        self.image_head = _head(config, config.image_features)
        self.text_head = _head(config, config.text_features)
        self.log_scale = nn.Parameter(torch.tensor(CLIP_SCALE_INIT))

    def encode_image(self, images: Tensor, seeds_B: Tensor | None = None) -> Tensor:
        """Unit vectors [B, D] of uint8 pixels [B, 3, H, W], or of features [B, F] of the tower.

        Args:
            seeds_B: of the samples, for dropout in training.
        """
        features_BF = images if images.ndim == 2 else self.image_tower(images)
        return F.normalize(self.image_head(features_BF, seeds_B), dim=-1)

    def encode_text(self, texts: Tensor, lengths_B: Tensor, seeds_B: Tensor | None = None) -> Tensor:
        """Unit vectors [B, D] of tokens [B, T], or of features [B, F] of the tower."""
        features_BF = texts if texts.is_floating_point() else self.text_tower(texts, lengths_B)
        return F.normalize(self.text_head(features_BF, seeds_B), dim=-1)

    def forward(self, batch: TowerBatch) -> Features:
        """Both sides of a batch."""
        image_BD = self.encode_image(batch.images, batch.seeds_B)
        return Features(image=image_BD, text=self.encode_text(batch.texts, batch.lengths_B, batch.seeds_B))


class LockedClipTask(GlobalTask[TowerBatch]):
    """Symmetric InfoNCE over the global batch."""

    model: LockedClip
    processor: TowerProcessor

    def __init__(
        self, config: Config, processor: TowerProcessor, image_tower: ImageTower, text_tower: TextTower
    ) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.model = LockedClip(config, image_tower, text_tower)

    def features(self, batch: TowerBatch, phase: str = "main") -> LocalOutput:
        return LocalOutput(self.model(batch))

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        pairs = len(features["image"])
        loss = info_nce(features["image"], features["text"], self.model.log_scale.exp())
        return {"contrastive": Part(loss * pairs, pairs, scope=Scope.GLOBAL_BATCH)}

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps the scale in [1, 100], as CLIP does."""
        self.model.log_scale.clamp_(0, CLIP_SCALE_MAX)

    def summary(self) -> dict[str, float]:
        return {"scale": float(self.model.log_scale.detach().exp())}

    def predictor(self) -> LockedClipPredictor:
        return LockedClipPredictor(self.config, self.processor, self.model, "locked_clip")


class LockedClipPredictor(ModelPredictor[Config, TowerProcessor, LockedClip]):
    """Encodes pictures and strings through the whole towers."""

    VERBS = VERBS

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, D] on the CPU.

        Args:
            visuals: paths, PIL images, arrays, bytes or Images; or one prepared float tensor [N, 3, H, W].
        """
        rows = []
        for some in batches(visuals, PREDICTION_BATCH):
            pixels = some if isinstance(some, Tensor) else self.processor.images.pixels(some)
            rows.append(self._encode_pixels(pixels.to(self.device)).float().cpu())
        return torch.cat(rows) if rows else torch.zeros(0)

    def _encode_pixels(self, pixels_BCHW: Tensor) -> Tensor:
        vectors_BD = self.module.encode_image(pixels_BCHW)
        if self.config.mirror_average:
            vectors_BD = F.normalize(vectors_BD + self.module.encode_image(pixels_BCHW.flip(-1)), dim=-1)
        return vectors_BD

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [N, D] on the CPU; texts of like length go through the tower together."""
        out_ND = torch.zeros(len(texts), self.config.width)
        for chosen, tokens_BT, lengths_B in self.processor.texts.in_order_of_length(texts, PREDICTION_BATCH):
            found_BD = self.module.encode_text(tokens_BT.to(self.device), lengths_B.to(self.device))
            out_ND[chosen] = found_BD.float().cpu()
        return out_ND

    def describe(self) -> dict[str, Any]:
        images, texts = self.processor.images, self.processor.texts
        return {"model": to_plain(self.config), "images": to_plain(images), "max_length": texts.max_length}

    def save_files(self, folder: Path) -> None:
        self.processor.texts.tokenizer.write(folder / "tokenizer.json")
        self.module.image_tower.write_config(folder / "image_tower")
        self.module.text_tower.write_config(folder / "text_tower")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        images = from_plain(TowerImages, description["images"])
        texts = TowerTexts(Tokenizer.read(folder / "tokenizer.json"), int(description["max_length"]))
        image_tower = image_tower_of(config, images, backbone_from_config(folder / "image_tower", "vision"))
        text_tower = text_tower_of(config, backbone_from_config(folder / "text_tower", "text"))
        module = LockedClip(config, image_tower, text_tower)
        return cls(config, TowerProcessor(images, texts), module, str(description["name"]))


def image_tower_of(config: Config, images: TowerImages, backbone: nn.Module) -> ImageTower:
    """The tower around a backbone, normalising as its pictures are prepared."""
    return ImageTower(
        backbone, config.train_image, scale=images.scale, mean=images.mean, std=images.std, readout=config.image_readout
    )


def text_tower_of(config: Config, backbone: nn.Module) -> TextTower:
    """The tower around a backbone."""
    return TextTower(backbone, config.train_text, readout=config.text_readout)


def _head(config: Config, features: int) -> FeatureHead:
    return FeatureHead(features, config.hidden, config.width, config.dropout, config.input_dropout)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, LockedClipTask]:
    """Both towers locked, and both trained, on random backbones of a few thousand weights."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    images = TowerImages(32, 32, shorter_side=None)
    texts = TowerTexts(tokenizer, 64)
    tasks = {}
    for name, trained in (("locked", False), ("trained", True)):
        config = replace(Config.tiny(), train_image=trained, train_text=trained)
        towers = (
            image_tower_of(config, images, tiny_vision_backbone()),
            text_tower_of(config, tiny_text_backbone(tokenizer.vocab_size)),
        )
        tasks[name] = LockedClipTask(config, TowerProcessor(images, texts), *towers)
    return tasks
