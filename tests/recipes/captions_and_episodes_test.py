"""frozen_tiny and flamingo_tiny cut short: what their language model reads, what is trained, what never changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.run_folder import RunFolder
from diptych.core.sampling import TextSampling
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.chat import IMAGE
from diptych.recipes.flamingo_tiny import flamingo_tiny
from diptych.recipes.frozen_tiny import frozen_tiny
from diptych.training import checkpoint, state

SHORT = ["--data", "scenes?size=32&objects=1&zoom=2&words=0&count=60", "--batch_size", "4", "--budget.steps", "2",
         "--evaluate_every", "2", "--log_every", "1", "--words.steps", "2", "--words.batch_size", "4", "--told", "20",
         "--episodes.queries", "1"]  # fmt: skip
IMAGES = [Scenes("test", 2, SceneConfig(32, 1))[index].image for index in range(2)]


@pytest.fixture(scope="module")
def frozen_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen") / "run"
    assert main(["train", "frozen_tiny", "--run", str(folder), *SHORT]) == 0
    return folder


@pytest.fixture(scope="module")
def flamingo_run(frozen_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On the other run's language model, and a tower of its own."""
    folder, language = tmp_path_factory.mktemp("flamingo") / "run", frozen_run / "artifacts" / "language"
    more = ["--language_model", str(language), "--contrast.steps", "2", "--contrast.batch_size", "4"]
    assert main(["train", "flamingo_tiny", "--run", str(folder), *SHORT, *more]) == 0
    return folder


def tensors(run: Path, stage: str) -> dict[str, torch.Tensor]:
    return state.read(checkpoint.latest(RunFolder(run), stage) / checkpoint.TENSORS)


def check(run: Path, stages: list[str]) -> None:
    """Stages, what is measured, and that the saved model reads several pictures."""
    lines = RunFolder(run).lines()
    assert list(dict.fromkeys(line["stage"] for line in lines)) == stages
    assert {"named", "named_swapped", "bound", "bound_swapped"} == set(lines[-1]["evaluation"])
    model = load(run)
    (text,) = model.generate_text([[IMAGES[0], "dapu", IMAGES[1]]], TextSampling(3))
    assert isinstance(text, str)
    assert float(model.prompt_likelihood([[IMAGES[0], "dapu", IMAGES[1]]], ["dapu"]).log_N[0]) < 0


def language_is_as_it_was(run: Path, words: Path) -> None:
    """Bit for bit that of the stage in which it was trained."""
    own, now = tensors(words, "words"), tensors(run, "train")
    language = [name for name in now if name.startswith("task/model.language.")]
    assert language
    for name in language:
        assert torch.equal(now[name], own[name.replace("task/model.language.", "task/model.")]), name


def test_frozen_trains_an_encoder_from_nothing_and_no_word(frozen_run: Path) -> None:
    check(frozen_run, ["words", "train"])
    language_is_as_it_was(frozen_run, frozen_run)
    assert any(name.startswith("task/model.tower.") for name in tensors(frozen_run, "train"))


def test_flamingo_trains_what_stands_between_its_parts(flamingo_run: Path, frozen_run: Path) -> None:
    check(flamingo_run, ["contrast", "train"])
    language_is_as_it_was(flamingo_run, frozen_run)
    assert float(tensors(flamingo_run, "train")["task/model.crossings.0.attention_gate"]) != 0


def test_the_language_model_has_read_captions_where_pictures_will_stand() -> None:
    recipe = frozen_tiny()
    seen, read = recipe.documents(), recipe.words_source()
    assert seen.fingerprint() != read.fingerprint()
    kinds = {"captions": 0, "episodes": 0}
    for sample in (seen[index] for index in range(20)):
        if "ways" in sample.meta:
            kinds["episodes"] += len(sample.visuals) == len(sample.meta["ways"]) == recipe.pictures
        else:
            kinds["captions"] += len(sample.visuals) == 1 and not sample.turns
    assert kinds == {"captions": 18, "episodes": 2}
    words = [read[index] for index in range(20)]
    assert not any(sample.visuals or IMAGE in turn.text for sample in words for turn in sample.turns)
    assert sum("ways" in sample.meta for sample in words) == 10


def test_without_episodes_any_captions_will_do() -> None:
    recipe = replace(flamingo_tiny(), share=0.0, told_share=0.0, data="scenes?objects=3&count=40")
    assert recipe.pictures == 1 and recipe.documents()[0].texts and len(recipe.words_source()) == 40
    with pytest.raises(ConfigError, match=r"share 1\.0 of episodes"):
        replace(recipe, share=1.0)
    with pytest.raises(DataError, match="name another fact"):
        replace(recipe, share=0.5, data="scenes?objects=3&min_objects=2&count=40").documents()
