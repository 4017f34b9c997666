"""ViT classifier: a vision transformer and a linear head.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", arXiv 2010.11929. The reference every vision tower here is
built from, trained with cross-entropy on class names.

Departures: none in the model; the head is a single linear layer, as in the paper's fine-tuning.

B batch, N pictures, C classes, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.capabilities.load import folder_of
from diptych.capabilities.verbs import Comparable
from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.errors import CheckpointError, ConfigError
from diptych.core.losses import Losses, Part
from diptych.core.sample import Sample
from diptych.core.task import Task
from diptych.data.batches.classes import ClassBatch, ClassConfig, ClassProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.layers.normalise import Normalise
from diptych.layers.vision_transformer import VisionConfig, VisionTransformer
from diptych.models import _weight_tables as tables
from diptych.models._batches import batches
from diptych.models._model_predictor import ModelPredictor
from diptych.models._public_folder import activation, read_json, read_preprocessing, read_weights
from diptych.objectives.classification import cross_entropy_sum

VERBS = ("encode_image", "score")
READS_TEXT = False
READS = ("ViTForImageClassification",)

PREDICTION_BATCH = 256


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes of the tower."""

    vision: VisionConfig = field(default_factory=lambda: VisionConfig(patch_size=16, eps=1e-12))

    @classmethod
    def vit_b16(cls) -> Config:
        """ViT-B/16 at 224 pixels: 86 M parameters."""
        return cls()

    @classmethod
    def tiny(cls, image_size: int = 64, patch_size: int = 8) -> Config:
        """Trains on a CPU in about a minute."""
        return cls(VisionConfig(image_size, patch_size, width=96, depth=3, heads=3, hidden=384, eps=1e-6))


class VitClassifier(nn.Module):
    """The tower and its head."""

    def __init__(self, config: Config, classes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.vision = VisionTransformer(config.vision)
        self.head = nn.Linear(config.vision.width, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """[B, D], uint8 or prepared pixels."""
        out: Tensor = self.vision(self.normalise(pixels_BCHW))
        return out

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Logits [B, C]."""
        out: Tensor = self.head(self.features(pixels_BCHW))
        return out


class VitClassifierTask(Task[ClassBatch]):
    """Cross-entropy on the class of each picture."""

    processor: ClassProcessor

    def __init__(self, config: Config, processor: ClassProcessor) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.model = VitClassifierPredictor.build(config, processor)

    def losses(self, batch: ClassBatch, phase: str = "main") -> Losses:
        loss = cross_entropy_sum(self.model(batch.pixels_BCHW), batch.classes_B)
        return {"classification": Part(loss, batch.num_samples)}

    def counts(self, batch: ClassBatch, phase: str = "main") -> dict[str, float]:
        return {"classification": batch.num_samples}

    def checkpoint_activations(self, on: bool) -> None:
        self.model.vision.transformer.checkpointing = on

    def predictor(self) -> VitClassifierPredictor:
        return VitClassifierPredictor(self.config, self.processor, self.model, "vit_classifier")


class VitClassifierPredictor(ModelPredictor[Config, ClassProcessor, VitClassifier]):
    """Encodes pictures, and scores them against the class names it was trained on."""

    VERBS = VERBS
    READS_TEXT = READS_TEXT
    comparable_over = Comparable.TEXTS

    @property
    def classes(self) -> tuple[str, ...]:
        """The names it knows, by index."""
        return self.processor.config.names

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, D] on the CPU: the tower's, before the head."""
        return F.normalize(self._in_batches(visuals, self.module.features), dim=-1)

    @torch.inference_mode()
    def score(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """Log-probabilities [N, M] of the named classes.

        Raises:
            ConfigError: a text is not one of its class names.
        """
        known = {name: index for index, name in enumerate(self.classes)}
        if unknown := [text for text in texts if text not in known]:
            raise ConfigError(
                f"{self.name} scores its own {len(known)} class names only, and '{unknown[0]}' is none of them: "
                f"use the template '{{}}' and data with these classes"
            )
        logits_NC = self._in_batches(visuals, self.module)
        return logits_NC.log_softmax(-1)[:, [known[text] for text in texts]]

    def _in_batches(self, visuals: Sequence[Any] | Tensor, run: Any) -> Tensor:
        rows = []
        for some in batches(visuals, PREDICTION_BATCH):
            pixels = some if isinstance(some, Tensor) else self.processor.pixels(some)
            rows.append(run(pixels.to(self.device)).float().cpu())
        return torch.cat(rows) if rows else torch.zeros(0)

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """What every picture goes through first."""
        return self.processor.config.image

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        """Nothing: it reads no text."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        processor = ClassProcessor(from_plain(ClassConfig, description["processor"]))
        return cls(config, processor, cls.build(config, processor), str(description["name"]))

    @classmethod
    def build(cls, config: Config, processor: ClassProcessor) -> VitClassifier:
        """The module with fresh weights.

        Raises:
            ConfigError: the processor's pictures are not of the tower's size.
        """
        image = processor.config.image
        if image.size != config.vision.image_size:
            raise ConfigError(
                f"the processor makes pictures of {image.size} pixels, the tower takes {config.vision.image_size}"
            )
        return VitClassifier(config, len(processor.config.names), image.mean, image.std)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, VitClassifierTask]:
    """Its one task at its smallest, on the classes of the samples: for contract tests and trials."""
    names = tuple(sorted({str(sample.meta["class"]) for sample in samples}))
    processor = ClassProcessor(ClassConfig(names, ImagePreprocessing(32, views=None)))
    return {"classification": VitClassifierTask(Config.tiny(image_size=32), processor)}


def weights_from(reference: str | Path) -> VitClassifierPredictor:
    """Weights of a `transformers` ViTForImageClassification folder or hub id, with its preprocessing and classes.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
    """
    folder = folder_of(reference)
    plain = read_json(folder / "config.json")
    vision = VisionConfig(
        image_size=plain.get("image_size", 224),
        patch_size=plain.get("patch_size", 16),
        width=plain.get("hidden_size", 768),
        depth=plain.get("num_hidden_layers", 12),
        heads=plain.get("num_attention_heads", 12),
        hidden=plain.get("intermediate_size", 3072),
        activation=activation(plain.get("hidden_act", "gelu")),
        eps=plain.get("layer_norm_eps", 1e-12),
    )
    labels = plain.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    names = tuple(labels[index] for index in sorted(labels, key=int))
    processor = ClassProcessor(ClassConfig(names, read_preprocessing(folder, vision.image_size)))
    config = Config(vision)
    module = VitClassifierPredictor.build(config, processor)
    public = read_weights(folder)
    older = any(name.startswith("vit.encoder.") for name in public)
    entries = tables.transformers_vit_v4(vision.depth) if older else tables.transformers_vit(vision.depth)
    state = tables.read(entries, public, folder)
    if wrong := [name for name, tensor in module.state_dict().items() if tensor.shape != state[name].shape]:
        raise CheckpointError(f"{folder}: the weight {wrong[0]} is not of the shape its configuration says")
    module.load_state_dict(state)
    return VitClassifierPredictor(config, processor, module.eval(), folder.name)
