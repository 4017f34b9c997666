"""Few-shot binding: words are invented for kinds of things by examples in the prompt, and a new picture is to be named.

Fast concept binding of Tsimpoukelli et al. 2021, arXiv 2106.13884 (section 4.3; Open-Ended miniImageNet), by the
likelihood of each word after the prompt. Words, kinds and their order are drawn anew in every episode, so nothing but
the pictures tells which word is right. Controls: every picture withheld, and the picture that is asked about replaced
by that of another episode. Ties are shared out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.data.derived.episodes import Episode, EpisodeConfig, draw_episode, kinds_of
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.encoding import batched
from diptych.evaluation.progress import shown
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("prompt_likelihood",)
SENTENCES = True
DATA = "scenes?objects=1&words=0"

_NAMES = ("accuracy", "accuracy_corrected", "accuracy_withheld", "accuracy_swapped")
_TOGETHER = 8
"""Episodes that are asked of a model in one call."""


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        ways, shots: how many kinds and words, and examples of each.
        episodes: how many are asked.
        by: the fact of a sample that is its kind ("class"; of scenes of one object "present": colour and shape).
        said: stands before a word; "" for the word alone.
        pool: of the first so many samples of the data.
    """

    ways: int = 2
    shots: int = 1
    episodes: int = 400
    by: str = "class"
    said: str = "this is a"
    pool: int = 2000


class _Asked(NamedTuple):
    """An episode, and the position of the picture that is shown in place of its last one."""

    key: str
    episode: Episode
    other: int


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks the word of a picture after examples.

    Raises:
        DataError: the data have fewer kinds than ways.
        DiptychError: the model takes fewer pictures in a prompt.
        NotANumber: the model answers NaN.
        TextTooLong: an episode does not fit the model.
    """
    config = EpisodeConfig(settings.ways, settings.shots, 1, settings.by, settings.said, settings.pool, words="test")
    asked = [one for one in _drawn(source, config, settings, records) if one.key not in records.done]
    together = list(batched(asked, _TOGETHER))
    for some in shown(together, "episodes", len(together), records):
        _ask(model, source, some, settings, records)
    return Outcome(_metrics(settings, records), {}, (Verb.PROMPT_LIKELIHOOD,))


def _drawn(source: Source, config: EpisodeConfig, settings: Settings, records: Records) -> Iterator[_Asked]:
    kinds, count = kinds_of(source, config), min(settings.episodes, records.limit or settings.episodes)
    keys = [f"episode-{index:05d}" for index in range(count)]
    draws = [np.random.Generator(np.random.PCG64(hash_to_int("binding", records.seed, key))) for key in keys]
    episodes = [draw_episode(kinds, config, rng) for rng in draws]
    others = Derangement(keys, records.seed)
    for index, (key, episode) in enumerate(zip(keys, episodes, strict=True)):
        other = others.of(index, lambda _: True)
        yield _Asked(key, episode, episode.shown[0] if other is None else episodes[other].shown[-1])


def _ask(model: Any, source: Source, some: Sequence[_Asked], settings: Settings, records: Records) -> None:
    readable, prompts, texts = [], list[list[Any]](), list[str]()
    for one in some:
        try:
            versions = _prompts(source, one, settings.said)
        except BadSample as bad:
            records.add(SampleRecord(one.key, status=bad.reason))
            continue
        readable.append(one)
        for prompt in versions:
            prompts += [prompt] * settings.ways
            texts += one.episode.words
    if not readable:
        return
    log_N = checked(model.prompt_likelihood(prompts, texts).log_N, model, readable[0].key)
    for one, scores_3W in zip(readable, log_N.numpy().reshape(-1, 3, settings.ways), strict=True):
        records.add(_record(one, scores_3W, settings.said))


def _prompts(source: Source, one: _Asked, said: str) -> tuple[list[Any], list[Any], list[Any]]:
    """With its own pictures, with another one last, and with none."""
    episode = one.episode
    words = [f"{said} {episode.words[way]}".strip() for way in episode.ways[:-1]]
    examples = [part for at, text in zip(episode.shown[:-1], words, strict=True) for part in (source[at].image, text)]
    own, other, end = source[episode.shown[-1]].image, source[one.other].image, [said] if said else []
    return [*examples, own, *end], [*examples, other, *end], [*words, *end]


def _record(one: _Asked, scores_3W: NDArray[np.float64], said: str) -> SampleRecord:
    own_W, swapped_W, withheld_W = scores_3W
    right, episode = one.episode.ways[-1], one.episode
    ranked = dict(zip(_NAMES, (own_W, own_W - withheld_W, withheld_W, swapped_W), strict=True))
    values = {name: _share(scores_W, right) for name, scores_W in ranked.items()}
    output = {"first": episode.words[int(own_W.argmax())], "right": episode.words[right],
              "words": list(episode.words), "log_likelihoods": np.round(own_W, 4).tolist()}  # fmt: skip
    prompt = [f"[{episode.kinds[way]}] {said} {episode.words[way]}" for way in episode.ways[:-1]]
    last = f"[{episode.kinds[right]}] {said}"
    return SampleRecord(one.key, prompt=[*prompt, last], output=output, values=values)


def _share(scores_W: NDArray[np.float64], right: int) -> float:
    """1 where the right one is first, a share of it where it is first with others."""
    first_W = scores_W == scores_W.max()
    return float(first_W[right] / first_W.sum())


def _metrics(settings: Settings, records: Records) -> dict[str, Metric]:
    chance, values = 1 / settings.ways, {name: records.values(name)[0] for name in _NAMES}
    found = {name: mean_metric(some, None, chance, records.seed) for name, some in values.items()}
    pairs = zip(values["accuracy"], values["accuracy_swapped"], strict=True)
    return found | {"accuracy_gain": mean_metric([own - other for own, other in pairs], None, 0.0, records.seed)}


def tiny_data(folder: Path) -> Source:
    """Scenes of one object."""
    return Scenes("test", 24, SceneConfig(32, 1, words=0.0))
