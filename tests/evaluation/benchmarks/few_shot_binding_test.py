"""Few-shot binding by models of known habits: one that binds, one that says the last word, one that says anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import nn

from diptych.capabilities.generator import Likelihood, Prompt
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError, NotANumber
from diptych.core.records.results import Result, read_samples
from diptych.core.sample import Sample
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.pseudowords import pseudowords
from diptych.evaluation.runner import evaluate


class Held:
    """Scenes that are drawn once."""

    name = "held"

    def __init__(self, count: int) -> None:
        scenes = Scenes("test", count, SceneConfig(24, 1, words=0.0))
        self.samples, self._keys = [scenes[index] for index in range(count)], list(scenes.keys())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        return "held"


SOURCE = Held(100)
KIND = {sample.image.name: sample.meta["class"] for sample in SOURCE.samples}


class Constant(Predictor):
    """Finds every word as likely as any other."""

    VERBS = ("prompt_likelihood",)
    name = "constant"

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1)
        self.asked: list[list[Any]] = []

    def prompt_likelihood(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Likelihood:
        self.asked += [list(prompt) for prompt in prompts]
        found = [self.liking(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        return Likelihood(torch.tensor(found, dtype=torch.float64), torch.ones(len(found), dtype=torch.int64))

    def liking(self, prompt: Prompt, text: str) -> float:
        return -1.0

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls()


class Binds(Constant):
    """Says what was said behind pictures of the last one's kind; of none, anything."""

    def liking(self, prompt: Prompt, text: str) -> float:
        kinds = [KIND[part.name] for part in prompt if not isinstance(part, str)]
        words = [part.split()[-1] for part in prompt if isinstance(part, str)][:-1]
        said = [word for kind, word in zip(kinds, words, strict=False) if kind == kinds[-1]]
        return 0.0 if text in said else -1.0


class Recites(Constant):
    """Says the word that it heard last."""

    def liking(self, prompt: Prompt, text: str) -> float:
        words = [part.split()[-1] for part in prompt if isinstance(part, str)][:-1]
        return 0.0 if text == words[-1] else -1.0


class Prefers(Binds):
    """Binds, and likes words of early letters so much that it says them whatever it saw."""

    def liking(self, prompt: Prompt, text: str) -> float:
        return super().liking(prompt, text) - 10 * ord(text[0])


def evaluated(model: Predictor, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["few_shot_binding"], SOURCE, folder=folder, settings={"few_shot_binding": settings})
    return result


@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (3, 2), (5, 1)])
def test_who_binds_is_always_right_by_pictures_alone(ways: int, shots: int, tmp_path: Path) -> None:
    model = Binds()
    found = evaluated(model, tmp_path, ways=ways, shots=shots, episodes=120).metrics
    assert found["accuracy"].value == found["accuracy_corrected"].value == 1.0
    assert found["accuracy"].chance == pytest.approx(1 / ways) == found["accuracy_withheld"].value
    assert found["accuracy_swapped"].low <= 1 / ways <= found["accuracy_swapped"].high  # type: ignore[operator]
    assert found["accuracy_gain"].value == pytest.approx(1 - found["accuracy_swapped"].value)
    pictures = {sum(not isinstance(part, str) for part in prompt) for prompt in model.asked}
    assert pictures == {0, ways * shots + 1} and all(prompt[-1] == "this is a" for prompt in model.asked)
    records = list(read_samples(tmp_path / "few_shot_binding"))
    assert len(records) == 120 and all(record.output["first"] == record.output["right"] for record in records)
    assert {word for record in records for word in record.output["words"]} <= set(pseudowords("test"))


def test_who_looks_at_no_picture_is_at_chance() -> None:
    constant = evaluated(Constant(), episodes=40).metrics
    assert all(constant[name].value == 0.5 for name in ("accuracy", "accuracy_withheld", "accuracy_swapped"))
    recites = evaluated(Recites(), episodes=400).metrics
    assert recites["accuracy"].low < 0.5 < recites["accuracy"].high  # type: ignore[operator]
    assert recites["accuracy"].value == recites["accuracy_withheld"].value
    assert recites["accuracy_corrected"].value == 0.5  # of a liking that no picture changes nothing is left


def test_what_is_liked_anyway_is_taken_out() -> None:
    found = evaluated(Prefers(), episodes=200).metrics
    assert found["accuracy"].value == found["accuracy_withheld"].value < 0.65
    assert found["accuracy_corrected"].value == 1.0


def test_fewer_episodes_under_a_limit_and_what_is_refused() -> None:
    (short,) = evaluate(Binds(), ["few_shot_binding"], SOURCE, limit=9)
    assert short.counts.evaluated == 9
    with pytest.raises(DataError, match="needs as many"):
        evaluated(Binds(), ways=7)

    class Broken(Constant):
        def liking(self, prompt: Prompt, text: str) -> float:
            return float("nan")

    with pytest.raises(NotANumber, match="constant answers NaN"):
        evaluated(Broken(), episodes=4)
