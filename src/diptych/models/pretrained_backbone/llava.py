"""LLaVA: features of a frozen vision tower, mapped into a language model's space, stand among the words.

Liu et al. 2023, "Visual Instruction Tuning", arXiv 2304.08485, and "Improved Baselines", arXiv 2310.03744 (a connector
of two layers). Two rounds: the connector alone on captions, then the connector and the language model on conversations,
the loss on what the assistant says alone. Any connector will do here, any vision tower and causal language model of
`transformers`; Llama runs on our own trunk.

B conversations, N pictures, S features of a picture, C their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.load import folder_of
from diptych.core.sample import Sample
from diptych.layers.connectors import ConnectorConfig
from diptych.models._batches import batches
from diptych.models.pretrained_backbone._conversation_predictor import PREDICTION_BATCH
from diptych.models.pretrained_backbone._llava_export import write_folder
from diptych.models.pretrained_backbone._llava_folder import read_folder
from diptych.models.pretrained_backbone._prefix_model import PrefixConfig, PrefixPredictor, PrefixTask
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._tiny_parts import tiny_parts

VERBS = ("encode_image", "generate_text", "text_likelihood", "answer")
READS = ("LlavaForConditionalGeneration",)


@dataclass(frozen=True)
class Config(PrefixConfig):
    """The defaults are LLaVA-1.5's."""

    layer: int = -2


class LlavaPredictor(PrefixPredictor[Config]):
    """Talks about pictures; its vector of one is the tower's, before the bridge."""

    VERBS = VERBS
    CONFIG = Config

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        """Unit vectors [N, C] on the CPU: the mean of the tower's features."""
        towers = (self.module.tower(self.pixels(some).to(self.device)) for some in batches(visuals, PREDICTION_BATCH))
        rows = [F.normalize(features_NSC.mean(1), dim=-1).float().cpu() for features_NSC in towers]
        return torch.cat(rows) if rows else torch.zeros(0)


class LlavaTask(PrefixTask[Config]):
    """Both rounds: `trained` says which."""

    PREDICTOR = LlavaPredictor
    NAME = "llava"


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, LlavaTask]:
    """Two connectors at their smallest, on random parts that are trained too; a tokenizer fitted to the samples."""
    average = Config(ConnectorConfig("average", queries=4), layer=-1)
    resampler = Config(ConnectorConfig("resampler", queries=4, depth=1), layer=-1)
    return {
        "average": LlavaTask(average, *tiny_parts(samples, 4), Trained(language=True)),
        "resampler": LlavaTask(resampler, *tiny_parts(samples, 4), Trained(tower=True, language=True)),
    }


def weights_from(reference: str | Path) -> LlavaPredictor:
    """A transformers LlavaForConditionalGeneration folder or hub id.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder's architecture has a part that is not here.
    """
    public = read_folder(folder_of(reference))
    config = Config(ConnectorConfig("mlp"), public.layer, public.special)
    module = LlavaPredictor.build(config, public.processor, public.tower, public.language)
    public.fill(module.connector)
    return LlavaPredictor(config, public.processor, module.eval(), public.path.name)


def export_to(predictor: LlavaPredictor, folder: Path) -> None:
    """Writes a `transformers` LlavaForConditionalGeneration folder; an adapter is added into the language model.

    Raises:
        ConfigError: the model has a part that LlavaForConditionalGeneration does not.
    """
    plain = predictor if predictor.config.adapter.method == "none" else predictor.merged()
    write_folder(plain.module, plain.config.connector, plain.processor, plain.name, folder)
