"""The base class of adapted contrastive models: a frozen base, classes by name, and a folder that holds both.

The base is a CLIP or SigLIP of ours or a public one; an adapter is trained with cross-entropy over the classes, whose
logits are the base's cosines at its own scale. Views of pictures that are not augmented are encoded once and their
vectors kept, where the adapter leaves the image tower alone; the same holds for the classes' texts.

B batch, N pictures or texts, C classes, T tokens, D width of the joint space.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.adapters.frozen import freeze
from diptych.capabilities.predictor import Predictor
from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.errors import CheckpointError, ConfigError
from diptych.core.losses import Losses, Part
from diptych.core.sample import Sample
from diptych.core.task import Task
from diptych.data.batches.classes import ClassBatch, ClassConfig, ClassProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.pixels.views import Views
from diptych.distributed.world import current
from diptych.models._batches import batches
from diptych.models.contrastive import clip
from diptych.models.contrastive._two_towers import PREDICTION_BATCH, TwoTowerPredictor, TwoTowers
from diptych.models.contrastive.clip import ClipPredictor
from diptych.models.contrastive.siglip import SiglipPredictor
from diptych.objectives.classification import cross_entropy_sum
from diptych.objectives.contrastive import CLIP_SCALE_MAX

BASES: dict[str, type[TwoTowerPredictor]] = {"clip": ClipPredictor, "siglip": SiglipPredictor}


class OnBase(nn.Module):
    """A frozen base and what is trained on top of it; a subclass says where.

    Attributes:
        frozen_images, frozen_texts: whether that side's vectors, as far as `image_vectors` or `encode_text` go, do not
            change in training.
    """

    frozen_images = True
    frozen_texts = True

    def __init__(self, base: TwoTowers) -> None:
        super().__init__()
        self.base = freeze(base)

    def train(self, mode: bool = True) -> Self:
        """The base stays in evaluation mode."""
        super().train(mode)
        self.base.eval()
        return self

    @property
    def scale(self) -> Tensor:
        """The base's temperature as a factor; a bias (SigLIP's) is the same for all classes and says nothing here."""
        return self.base.get_parameter("log_scale").exp()

    def image_vectors(self, pixels_BCHW: Tensor) -> Tensor:
        """Vectors [B, D] in the joint space, before they are normalised."""
        out: Tensor = self.base.image_head(self.base.vision(self.base.normalise(pixels_BCHW)))
        return out

    def placed(self, vectors_BD: Tensor) -> Tensor:
        """Unit vectors of what `image_vectors` gives."""
        return F.normalize(vectors_BD, dim=-1)

    def encode_text(self, tokens_NT: Tensor, lengths_N: Tensor) -> Tensor:
        """Unit vectors [N, D]."""
        return self.base.encode_text(tokens_NT, lengths_N)


class OnBaseTask(Task[ClassBatch]):
    """Cross-entropy over the classes.

    Attributes:
        vectors: of pictures that were seen, by their keys, where they never change.
    """

    model: OnBase
    processor: ClassProcessor

    def __init__(self, processor: ClassProcessor) -> None:
        super().__init__()
        self.processor = processor
        self.vectors: dict[str, Tensor] = {}

    @abstractmethod
    def logits(self, batch: ClassBatch) -> Tensor:
        """[B, C]."""

    def losses(self, batch: ClassBatch, phase: str = "main") -> Losses:
        return {"classification": Part(cross_entropy_sum(self.logits(batch), batch.classes_B), batch.num_samples)}

    def counts(self, batch: ClassBatch, phase: str = "main") -> dict[str, float]:
        return {"classification": batch.num_samples}

    def image_vectors(self, batch: ClassBatch) -> Tensor:
        """What the image side gives before `placed` [B, D]: computed once a picture, where it never changes.

        Only in a single process: others would wait in vain for one that has its vectors (FSDP2).
        """
        if not self.model.frozen_images:
            return self.model.image_vectors(batch.pixels_BCHW)
        if self.processor.config.image.views is not None or current().size > 1:
            with torch.no_grad():
                return self.model.image_vectors(batch.pixels_BCHW)
        new = [place for place, key in enumerate(batch.keys) if self._stale(key)]
        if new:
            with torch.no_grad():
                found = self.model.image_vectors(batch.pixels_BCHW[new])
            self.vectors.update(zip((batch.keys[place] for place in new), found, strict=True))
        return torch.stack([self.vectors[key] for key in batch.keys])

    def _stale(self, key: str) -> bool:
        """Whether there is no vector of this picture, or one of other weights' type or device."""
        kept, weight = self.vectors.get(key), self.model.scale
        return kept is None or (kept.device, kept.dtype.itemsize) != (weight.device, weight.dtype.itemsize)


class OnBasePredictor(Predictor):
    """Encodes pictures; a subclass adds what it makes of texts.

    Attributes:
        classes: the names it was trained on, by index.
    """

    CONFIG: ClassVar[type[ModelConfig]]
    config: ModelConfig
    module: OnBase

    def __init__(
        self, config: ModelConfig, base: TwoTowerPredictor, classes: Sequence[str], module: OnBase, name: str
    ) -> None:
        self.config = config
        self.base = base
        self.classes = tuple(classes)
        self.module = module
        self.name = name

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, D] on the CPU."""
        return self.over_pictures(visuals, lambda vectors_BD: self.module.placed(vectors_BD))

    def over_pictures(self, visuals: Sequence[Any] | Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """What `run` makes of the pictures' vectors, on the CPU, in batches."""
        rows = []
        for some in batches(visuals, PREDICTION_BATCH):
            pixels = some if isinstance(some, Tensor) else self.base.processor.pixels(some)
            rows.append(run(self.module.image_vectors(pixels.to(self.device))).float().cpu())
        return torch.cat(rows) if rows else torch.zeros(0)

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """What every picture goes through first."""
        return self.base.processor.config.image

    def describe(self) -> dict[str, Any]:
        kind = next(name for name, cls in BASES.items() if cls is type(self.base))
        base = {"kind": kind, "name": self.base.name, **self.base.describe()}
        return {"model": to_plain(self.config), "classes": list(self.classes), "base": base}

    def save_files(self, folder: Path) -> None:
        self.base.save_files(folder)

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        plain = description["base"]
        if plain["kind"] not in BASES:
            raise CheckpointError(f"{folder}: its base is a '{plain['kind']}'; known: {', '.join(BASES)}")
        base = BASES[plain["kind"]].restore(plain, folder)
        config, classes = from_plain(cls.CONFIG, description["model"]), tuple(description["classes"])
        return cls(config, base, classes, cls.build(config, base, classes), str(description["name"]))

    @classmethod
    @abstractmethod
    def build(cls, config: Any, base: TwoTowerPredictor, classes: Sequence[str]) -> OnBase:
        """The module on this base, with a fresh adapter; takes the base's module over and freezes it."""


def adaptable(base: Predictor) -> TwoTowerPredictor:
    """The base as a model whose towers adapters know.

    Raises:
        ConfigError: it is another kind of model; it is named.
    """
    if type(base) not in BASES.values():
        raise ConfigError(
            f"adapters here go onto a CLIP or SigLIP, of ours or a public one, and {base.name} is a "
            f"{type(base).__name__.removesuffix('Predictor')}: name another base"
        )
    assert isinstance(base, TwoTowerPredictor)
    return base


def class_processor(base: TwoTowerPredictor, names: Sequence[str], views: Views | None = None) -> ClassProcessor:
    """Pictures as the base takes them, with these classes.

    Args:
        views: augmentation; None for pictures as they are evaluated, whose vectors can be kept.
    """
    return ClassProcessor(ClassConfig(tuple(names), replace(base.processor.config.image, views=views)))


def tiny_base(samples: Sequence[Sample]) -> TwoTowerPredictor:
    """A tiny CLIP that tells pictures apart as a trained one does: at a high scale, looking at some patches more."""
    task = clip.tiny_tasks(samples)["contrastive"]
    with torch.no_grad():
        task.model.log_scale.fill_(CLIP_SCALE_MAX)
        for name, parameter in task.model.vision.named_parameters():
            if name.endswith("qkv.weight"):
                parameter.mul_(4)
    return task.predictor()
