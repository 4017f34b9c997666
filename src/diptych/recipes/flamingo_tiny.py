"""Flamingo on its own parts: a frozen tower and language model, and gates between them that learn from documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.derived.episodes import EpisodeConfig
from diptych.layers.causal_block import CausalConfig
from diptych.layers.connectors import ConnectorConfig
from diptych.layers.gated_cross_attention import GatedCrossConfig
from diptych.models.contrastive import clip
from diptych.models.pretrained_backbone import flamingo
from diptych.models.pretrained_backbone._interleaved import plain_template
from diptych.models.pretrained_backbone._llama import LlamaConfig
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._captions_and_episodes import CaptionsAndEpisodes
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._own_parts import END
from diptych.recipes._prefix_parts import read_parts
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage, Train


@dataclass(frozen=True, kw_only=True)
class FlamingoRun(CaptionsAndEpisodes):
    """A tower and a language model, given or trained first and frozen for good, and what stands between them."""

    model: flamingo.Config = field(default_factory=flamingo.Config)

    def stages(self) -> Sequence[Stage]:
        train = Train("train", source=lambda context: self.documents(), task=self._task, evaluate=self.evaluator)
        return (*self.own_stages(), train)

    def _task(self, context: Context) -> flamingo.FlamingoTask:
        parts = read_parts(self, context, self.model, plain_template(END), self.max_length, "", self.pictures)
        return flamingo.FlamingoTask(self.model, *parts, Trained())


def flamingo_tiny() -> FlamingoRun:
    """Scenes of one large object on 32 pixels; a picture becomes 4 vectors, which stand before every block."""
    return FlamingoRun(
        name="flamingo_tiny",
        data="scenes?size=32&objects=1&zoom=2&words=0",
        image=ImagePreprocessing(32, views=None),
        model=flamingo.Config(
            ConnectorConfig("resampler", queries=4, depth=1, heads=3), GatedCrossConfig(heads=4, head_width=24)
        ),
        episodes=EpisodeConfig(queries=4, by="present"),
        towers=clip.Config.tiny(image_size=32),
        contrast=EarlierStage(400, 64, 1e-3, weight_decay=0.1, beta2=0.98),
        language=LlamaConfig(CausalConfig(96, 3, 4, 256), 512, 256),
        words=EarlierStage(1000, 32, 2e-3, weight_decay=0.05, beta2=0.98),
        context=64,
        vocab_size=512,
        threads=1,
        batch_size=32,
        budget=Budget(steps=400),
        optimizer=AdamWConfig(lr=2e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=50),
        log_every=50,
        evaluate_every=200,
    )
