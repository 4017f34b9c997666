"""Runs on captions and on episodes of invented words, documents in which pictures and texts alternate.

Their own language model was trained on the same with descriptions in the place of pictures: captions for captions, and
episodes. So it knows how to look back for what a word stood beside, and what remains to be learned is to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.data.derived.caption_to_caption import CaptionToCaption
from diptych.data.derived.episodes import EpisodeConfig, Episodes
from diptych.data.derived.mixture import Mixture
from diptych.data.derived.without import WithoutTurns
from diptych.data.words.chat import PlainTemplate
from diptych.evaluation.runner import evaluate
from diptych.models.pretrained_backbone._interleaved import plain_template
from diptych.recipes._own_parts import END, OwnParts
from diptych.training.stages import Artifact, Context, Evaluate, fit_tokenizer

_FITTED = 3000
"""Texts that the tokenizer is fitted to."""
_ASKED, _LONG = 100, 24
"""Episodes, and captions with the most of their tokens, of the selection data."""
_REPORTED = {
    "named": ("captioning", "pair_recall"),
    "named_swapped": ("captioning", "pair_recall_other_picture"),
    "bound": ("few_shot_binding", "accuracy"),
    "bound_swapped": ("few_shot_binding", "accuracy_swapped"),
}
"""What is printed of an evaluation: the share of coloured shapes that captions name, of words that are bound."""


@dataclass(frozen=True, kw_only=True)
class CaptionsAndEpisodes(OwnParts):
    """A run on captions and episodes.

    Attributes:
        episodes: what they are made of.
        told: how many episodes there are.
        share, told_share: of the samples that are episodes: with pictures, and for the own language model; 0 for data
            whose samples are of no kinds.
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
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} of episodes: give 0 or more, and less than 1")

    @property
    def pictures(self) -> int:
        """The most of a document."""
        return self.episodes.ways * self.episodes.shots + self.episodes.queries if self.share else 1

    def documents(self) -> Source:
        """What is trained on: captions, and episodes."""
        source = self.training_data()
        return self._with_episodes(WithoutTurns(source), source, self.episodes, self.share, told=False)

    def words_source(self) -> Source:
        """The same of other scenes, with captions in the place of pictures."""
        source, config = self._data_of_parts(), replace(self.episodes, seed=self.seed_of_parts)
        return self._with_episodes(CaptionToCaption(source), source, config, self.told_share, told=True)

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
        asked: dict[str, dict[str, Any]] = {"captioning": {"baseline": False, "max_tokens": _LONG}}
        if self.share:
            asked["few_shot_binding"] = {"by": self.episodes.by, "said": self.episodes.said}

        def measure(model: Predictor) -> dict[str, float]:
            results = evaluate(model, list(asked), source, limit=_ASKED, settings=asked)
            found = {one.benchmark: one.metrics for one in results}
            return {
                name: found[benchmark][metric].value
                for name, (benchmark, metric) in _REPORTED.items()
                if metric in found.get(benchmark, {})
            }

        return measure

    def _with_episodes(
        self, captions: Source, source: Source, config: EpisodeConfig, share: float, told: bool
    ) -> Source:
        """Captions, and in this share episodes of the source."""
        if not share:
            return captions
        episodes = Episodes(source, config, self.told, told)
        return Mixture([captions, episodes], [1 - share, share], seed=self.seed)
