"""A trained LLaVA tuned on your own conversations or captions, with LoRA in its language model.

diptych train llava_finetune --base llava-hf/llava-1.5-7b-hf --data talks.jsonl --adapter.rank 16
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from diptych.adapters.language import LanguageAdapterConfig
from diptych.capabilities.load import load
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError
from diptych.core.source import Source
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.derived.subset import Subset
from diptych.data.loading.loader import evaluation_batches
from diptych.models.pretrained_backbone._prefix_model import answers_part
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone.llava import LlavaPredictor, LlavaTask
from diptych.recipes._pairs import split_data
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Evaluate, Stage, Train

SELECTED_BY = "log_likelihood"
_ASKED = 200
"""Conversations of the selection data."""
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class LlavaFineTuneRun(Run):
    """A base, an adapter, and conversations.

    Attributes:
        base: a run of LLaVA, a model folder, a LlavaForConditionalGeneration folder, or a hub id.
        adapter: what is trained of the language model; its method "none" trains all of it.
        trained: which parts are trained at all.
        held_out: how many training samples to select on, where the data has no "val" split of its own.
        pictures: the most of a conversation.
        max_length: the longest conversation in tokens, pictures counted.
        prompt: what is asked where a sample has a caption and no conversation.
    """

    base: str = ""
    adapter: LanguageAdapterConfig = field(default_factory=lambda: LanguageAdapterConfig("lora", 16, 32.0))
    trained: Trained = field(default_factory=lambda: Trained(language=True))
    held_out: int = 200
    pictures: int = 1
    max_length: int = 1024
    prompt: str = "What does the picture show?"

    def stages(self) -> Sequence[Stage]:
        if not self.base:
            raise ConfigError("llava_finetune needs a trained model to start from: --base RUN_OR_FOLDER")
        train, held_out = split_data(self.data, self.held_out)
        return (
            Train(
                "train",
                source=lambda context: train,
                task=lambda context: self.task(),
                evaluate=lambda context: likelihood_on(held_out),
                best=SELECTED_BY,
            ),
        )

    def task(self) -> LlavaTask:
        """The base with a fresh adapter; one that it has is added into its weights first.

        Raises:
            ConfigError: the base is no LLaVA, or its language model has nothing that the adapter changes.
        """
        base = load(self.base)
        if not isinstance(base, LlavaPredictor):
            raise ConfigError(f"--base {self.base} is a {base.name}, and llava_finetune tunes a LLaVA")
        base = base if base.config.adapter.method == "none" else base.merged()
        settings = replace(
            base.processor.config, pictures=self.pictures, prompt=self.prompt,
            max_length=min(self.max_length, base.module.language.context),
        )  # fmt: skip
        processor = ConversationProcessor(settings, base.processor.tokenizer, base.processor.template)
        config = replace(base.config, adapter=self.adapter)
        task = LlavaTask(config, processor, base.module.tower, base.module.language, self.trained)
        task.model.connector.load_state_dict(base.module.connector.state_dict())
        return task


def likelihood_on(source: Source, most: int = _ASKED) -> Evaluate:
    """The mean log-probability of a held-out answer's token: how little surprises the model of what people say."""
    some = Subset(source, range(min(most, len(source))))

    @torch.inference_mode()
    def measure(model: Predictor) -> dict[str, float]:
        assert isinstance(model, LlavaPredictor), "the task makes such predictors"
        batches = evaluation_batches(some, model.processor, _AT_ONCE, threads=1, bad_threshold=1.0)
        parts = [answers_part(model.module, batch.to(model.device)) for batch in batches]
        if not parts:
            raise DataError(f"not one of the {len(some)} conversations to select on can be read: {batches.bad[0]}")
        return {SELECTED_BY: -float(sum(part.sum for part in parts)) / sum(part.count for part in parts)}

    return measure


def llava_finetune() -> LlavaFineTuneRun:
    """A few hundred steps on one GPU for a base of 7 billion parameters."""
    return LlavaFineTuneRun(
        name="llava_finetune",
        data="scenes",
        batch_size=16,
        budget=Budget(steps=300),
        optimizer=AdamWConfig(lr=2e-4, weight_decay=0.0),
        schedule=WarmupCosine(warmup=10),
        log_every=10,
        evaluate_every=100,
    )
