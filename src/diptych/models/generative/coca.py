"""CoCa: contrast and captions from one pass.

Yu et al. 2022, "CoCa: Contrastive Captioners are Image-Text Foundation Models", arXiv 2205.01917. The text decoder is
split: its lower half reads text alone and causally, and ends in a learned token whose state is the text's vector; its
upper half reads the picture too and says the next token. A picture's patches are pooled by learned queries, one for the
contrastive vector and many for captioning. L = L_con + 2 L_cap (equation 4).

Departures: the learned end token stands right after the last word, so that padding touches nothing; the switches
`text_end`, `pooling` and `reads_apart` make the model of open_clip, whose released weights it reads.

B batch, N pictures or texts, T tokens, D width, W of the joint space, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.generator import GREEDY, Likelihood, Prompt
from diptych.capabilities.load import folder_of
from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.task import Features, GlobalTask, LocalOutput
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer
from diptych.decoding.texts import written_texts
from diptych.layers.feature_map import BackboneMap
from diptych.layers.vision_transformer import VisionTransformer
from diptych.models import _weight_tables as tables
from diptych.models._batches import batches, seeded_batches
from diptych.models._check_texts import check_texts
from diptych.models._image_text_predictor import OnBackbonePredictor
from diptych.models._public_folder import read_weights
from diptych.models.generative import _coca_open_clip as public
from diptych.models.generative._captioning import Beginning, beginning_of, joined, likelihood_rows
from diptych.models.generative._coca_decoder import CocaDecoder
from diptych.models.generative._coca_export import write_folder
from diptych.models.generative._coca_module import Coca, Config, DecoderConfig, Seen
from diptych.objectives.autoregressive import next_token_labels, next_token_loss, token_log_probabilities
from diptych.objectives.contrastive import CLIP_SCALE_MAX, info_nce

__all__ = ["Coca", "CocaPredictor", "CocaTask", "Config", "DecoderConfig", "Weights"]

VERBS = ("encode_image", "encode_text", "generate_text", "text_likelihood")
READS = ("open_clip/coca",)

PREDICTION_BATCH = 128


@dataclass(frozen=True)
class Weights:
    """Of the two losses."""

    contrastive: float = 1.0
    caption: float = 2.0

    def __post_init__(self) -> None:
        if min(self.contrastive, self.caption) <= 0:
            raise ConfigError(
                f"weights {self.contrastive} and {self.caption}: both losses train CoCa, so give each more than 0"
            )


class CocaTask(GlobalTask[ImageTextBatch]):
    """Both losses from one pass of each side."""

    processor: ImageTextProcessor

    def __init__(
        self, config: Config, processor: ImageTextProcessor, weights: Weights | None = None,
        backbone: BackboneMap | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = config
        self.processor = processor
        self.weights = weights or Weights()
        self.model = CocaPredictor.build(config, processor, backbone)

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        """Unit vectors "image" and "text", and the part "caption": the mean cross-entropy of a caption's tokens."""
        model = self.model
        seen, read = model.see(batch.pixels_BCHW), model.read(batch.tokens_BT, batch.lengths_B)
        states_BTD = model.write(read.states_BTD, seen.memory_BQD)
        labels_BT = next_token_labels(batch.tokens_BT, batch.lengths_B)
        loss = next_token_loss(states_BTD, labels_BT, model.logits).cross_entropy
        rows = Features(image=seen.vector_BW, text=read.vector_BW)
        return LocalOutput(rows, {"caption": Part(loss, self._asked(batch), self.weights.caption)})

    def _asked(self, batch: ImageTextBatch) -> int:
        """Every token but a row's first is to be said."""
        return int((batch.lengths_B - 1).sum())

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        pairs = len(features["image"])
        loss = info_nce(features["image"], features["text"], self.model.log_scale.exp())
        return {"contrastive": Part(loss * pairs, pairs, self.weights.contrastive, Scope.GLOBAL_BATCH)}

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps the contrastive scale in [1, 100], as CLIP does."""
        self.model.log_scale.clamp_(0, CLIP_SCALE_MAX)

    def summary(self) -> dict[str, float]:
        return {"scale": float(self.model.log_scale.detach().exp())}

    def checkpoint_activations(self, on: bool) -> None:
        self.model.checkpoint_activations(on)

    def predictor(self) -> CocaPredictor:
        return CocaPredictor(self.config, self.processor, self.model, "coca")


class CocaPredictor(OnBackbonePredictor[Config, Coca]):
    """Encodes each side, writes captions, and says how likely a text is for a picture.

    Where nothing is shown (a visual of None) it is given the mean colour.
    """

    VERBS = VERBS
    CONFIG = Config

    @property
    def vision(self) -> VisionTransformer:
        return self.module.vision

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Unit vectors [N, W] on the CPU."""
        rows = [self._see(some).vector_BW.float().cpu() for some in batches(visuals, PREDICTION_BATCH)]
        return torch.cat(rows) if rows else torch.zeros(0)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [N, W] on the CPU."""
        rows = []
        for some in batches(texts, PREDICTION_BATCH):
            tokens_NT, lengths_N = (part.to(self.device) for part in self.processor.tokens(some))
            rows.append(self.module.read(tokens_NT, lengths_N).vector_BW.float().cpu())
        return torch.cat(rows) if rows else torch.zeros(0)

    @torch.inference_mode()
    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        """A caption of each prompt's picture, after the words that it begins with.

        Args:
            prompts: a picture, and the beginning of the text if any.

        Raises:
            DiptychError: a prompt is not one picture, then text.
            TextTooLong: a beginning has no room for one more token.
            ConfigError: not one seed a prompt.
        """
        begun = [beginning_of(prompt, self.processor.tokenizer) for prompt in prompts]
        written: list[str] = []
        for some, drawn in seeded_batches(begun, seeds, "prompts", PREDICTION_BATCH):
            written += self._written(some, sampling, drawn)
        return written

    def _written(self, begun: Sequence[Beginning], sampling: TextSampling, seeds: Sequence[int]) -> list[str]:
        tokenizer = self.processor.tokenizer
        memory = self._see([one.visual for one in begun]).memory_BQD
        most = self.processor.config.text.max_length
        decoder = CocaDecoder(self.module, memory, [one.tokens for one in begun], most)
        rooms = [most - len(one.tokens) for one in begun]
        rows = written_texts(decoder, rooms, sampling, [tokenizer.end_id], seeds)
        return [tokenizer.decode(row).strip() for row in rows]

    @torch.inference_mode()
    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        """log p(text i | picture i, prompt i), summed over the text's tokens and its end.

        Raises:
            DiptychError: not one prompt and one text a visual.
            TextTooLong: a prompt with its text does not fit.
        """
        rows = likelihood_rows(self.processor, visuals, prompts, texts)
        parts = []
        for some in batches(rows, PREDICTION_BATCH):
            tokens_NT, lengths_N, labels_NT = (part.to(self.device) for part in joined(some, self.processor.tokenizer))
            memory = self._see([row.visual for row in some]).memory_BQD
            states_NTD = self.module.write(self.module.read(tokens_NT, lengths_N).states_BTD, memory)
            chances_NT = token_log_probabilities(self.module.logits(states_NTD), labels_NT)
            parts.append((chances_NT.sum(1), (labels_NT >= 0).sum(1)))
        return Likelihood.joined(parts)

    def _see(self, visuals: Sequence[Any | None] | Tensor) -> Seen:
        """What pictures become; one that is not there is the mean colour."""
        if isinstance(visuals, Tensor):
            return self.module.see(visuals.to(self.device))
        size = self.processor.config.image.size
        shown = [place for place, visual in enumerate(visuals) if visual is not None]
        image_NCHW = torch.zeros(len(visuals), 3, size, size, device=self.device)  # the mean colour, once normalised
        if shown:
            pixels = self.processor.pixels([visuals[place] for place in shown]).to(self.device)
            image_NCHW[shown] = self.module.normalise(pixels).to(image_NCHW.dtype)
        return self.module.see(image_NCHW)

    @classmethod
    def build(cls, config: Config, processor: ImageTextProcessor, backbone: BackboneMap | None = None) -> Coca:
        """The module with fresh weights.

        Raises:
            ConfigError: captions may be longer than the positions, the tokenizer is of another size, or texts are not
                padded as the mask of `text_end` takes them.
        """
        texts, image = processor.config.text, processor.config.image
        check_texts(config.text, texts, processor.tokenizer)
        padded = texts.pad_to_max and (texts.max_length + 1, processor.tokenizer.pad_id)
        if config.text_end == "open_clip" and padded != (config.text.context, config.text.pad_id):
            raise ConfigError(
                f"text_end 'open_clip' reads texts that are padded to {config.text.context - 1} tokens with "
                f"{config.text.pad_id}, and the processor does not make them"
            )
        return Coca(config, image.mean, image.std, backbone)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, CocaTask]:
    """With the paper's poolers and with open_clip's one, at their smallest; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(128))
    sizes = Config.tiny(tokenizer.vocab_size, image_size=32)
    sizes = replace(sizes, text=replace(sizes.text, context=128))
    processor = ImageTextProcessor(settings, tokenizer)
    return {
        "cascade": CocaTask(sizes, processor),
        "shared": CocaTask(replace(sizes, pooling="shared", reads_apart=True), processor),
    }


def weights_from(reference: str | Path) -> CocaPredictor:
    """Weights of an open_clip CoCa folder or hub id.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder's architecture has a part that is not here.
    """
    folder = folder_of(reference)
    config = public.read_config(folder)
    processor = public.read_processor(folder, config)
    module = CocaPredictor.build(config, processor)
    weights = read_weights(folder, stem=public.WEIGHTS, legacy="open_clip_pytorch_model.bin")
    tables.load_into(module, tables.read(public.entries(config), public.unpacked(weights), folder), folder)
    return CocaPredictor(config, processor, module, folder.name)


def export_to(predictor: CocaPredictor, folder: Path) -> None:
    """Writes an open_clip CoCa folder.

    Raises:
        ConfigError: the model is not built as open_clip's.
    """
    write_folder(predictor.module, predictor.processor, predictor.name, folder)
