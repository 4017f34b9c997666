"""What recipes share whose documents are pictures and texts in turns: captions, and episodes of invented words.

Their own language model has read the same with descriptions in the place of pictures: captions told and said again, and
episodes. So it knows how to look back for what a word stood beside, and what is learned later is to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.data.derived.captions_only import CaptionsOnly
from diptych.data.derived.captions_retold import CaptionsRetold
from diptych.data.derived.episodes import EpisodeConfig, Episodes
from diptych.data.derived.mixture import Mixture
from diptych.data.words.chat import PlainTemplate
from diptych.evaluation.runner import evaluate
from diptych.models.pretrained_backbone._interleaved import plain_template
from diptych.recipes._own_parts import END, OwnParts
from diptych.training.stages import Artifact, Context, Evaluate, fit_tokenizer

_FITTED = 3000
"""Texts that the tokenizer is fitted to."""
_ASKED, _LONG = 100, 24
"""Episodes, and captions with the most of their tokens, of the selection data."""


@dataclass(frozen=True, kw_only=True)
class TakingTurns(OwnParts):
    """A run on captions and episodes.

    Attributes:
        episodes: what they are made of.
        told: how many episodes there are.
        share, told_share: of the samples that are episodes: with pictures, and for the own language model.
        max_length: the longest document in tokens.
    """

    episodes: EpisodeConfig = field(default_factory=EpisodeConfig)
    told: int = 20_000
    share: float = 0.1
    told_share: float = 0.5
    max_length: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("share", "told_share"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} of episodes: give more than 0 and less than 1")

    @property
    def pictures(self) -> int:
        """The most of a document."""
        return self.episodes.ways * self.episodes.shots + self.episodes.queries

    def documents(self) -> Source:
        """What is trained on: captions, and episodes."""
        source = self.training_data()
        return self._mixed(CaptionsOnly(source), Episodes(source, self.episodes, self.told), self.share)

    def words_source(self) -> Source:
        """The same of other scenes, with captions in the place of pictures."""
        source = self._data_of_parts()
        config = replace(self.episodes, seed=self.seed_of_parts)
        return self._mixed(CaptionsRetold(source), Episodes(source, config, self.told, told=True), self.told_share)

    def words_template(self) -> PlainTemplate:
        """Without names of speakers."""
        return plain_template(END)

    def tokenizer_stage(self, mask: bool = False) -> Artifact:
        """Fits the tokenizer to all that the language model reads."""

        def said(context: Context) -> Iterator[str]:
            source = self.words_source()
            for index in range(min(len(source), _FITTED)):
                yield from (turn.text for turn in source[index].turns)

        return fit_tokenizer(said, self.vocab_size, mask=mask)

    def evaluator(self, context: Context) -> Evaluate:
        """The share of coloured shapes that captions name, and of another picture's; how often new words are bound."""
        source = self.selection_data()
        chosen: dict[str, dict[str, Any]] = {
            "captioning": {"baseline": False, "max_tokens": _LONG},
            "few_shot_binding": {"by": self.episodes.by, "said": self.episodes.said},
        }

        def measure(model: Predictor) -> dict[str, float]:
            said, bound = evaluate(model, list(chosen), source, limit=_ASKED, settings=chosen)
            wanted = {"named": "pair_recall", "named_swapped": "pair_recall_other_picture"}
            named = {name: said.metrics[metric].value for name, metric in wanted.items() if metric in said.metrics}
            wanted = {"bound": "accuracy", "bound_swapped": "accuracy_swapped"}
            return named | {name: bound.metrics[metric].value for name, metric in wanted.items()}

        return measure

    def _mixed(self, captions: Source, episodes: Source, share: float) -> Source:
        return Mixture([captions, episodes], [1 - share, share], seed=self.seed)
