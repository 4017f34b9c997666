"""minigpt4_tiny and minigpt_v2_tiny cut short; what the language models have read; controls; kinds of output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.records.run_folder import RunFolder
from diptych.data.derived.task_turns import TASKS, conversations
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.recipes._answer_rates import answered
from diptych.recipes._output_rates import kind_of, kinds_of_output
from diptych.recipes.minigpt4_tiny import minigpt4_tiny
from diptych.recipes.minigpt_v2_tiny import minigpt_v2_tiny
from diptych.training import checkpoint, state

SHORT = ["--data", "scenes?size=48&objects=2&words=0&count=8", "--batch_size", "4", "--budget.steps", "2",
         "--captions.steps", "2", "--evaluate_every", "2", "--log_every", "1", "--contrast.steps", "2",
         "--words.steps", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minigpt") / "run"
    assert main(["train", "minigpt_v2_tiny", "--run", str(folder), *SHORT]) == 0
    return folder


def test_it_says_what_it_trains_measures_and_points(run: Path) -> None:
    lines = RunFolder(run).lines()
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["contrast", "words", "captions", "train"]
    names = {"answered", "located", "kind_caption", "kind_grounding", "kind_refer", "kind_identify"}
    assert set(lines[-1]["evaluation"]) == names
    (box,) = load(run).locate([Scenes("test", 1)[0].image], ["red circle"])
    assert box is None or box.x0 < box.x1
    assert (run / "evaluation" / "grounding" / "result.json").is_file()


def test_the_language_model_is_trained_by_its_adapter_alone(run: Path) -> None:
    def tensors(stage: str) -> dict[str, torch.Tensor]:
        return state.read(checkpoint.latest(RunFolder(run), stage) / checkpoint.TENSORS)

    first, second = tensors("captions"), tensors("train")
    changed = {name for name in first if name.startswith("task/") and not torch.equal(first[name], second[name])}
    assert changed and all("lora_" in name or name.startswith("task/model.connector.") for name in changed)


def test_the_language_model_has_read_tasks_before_it_sees_any(run: Path) -> None:
    recipe = minigpt_v2_tiny()
    parts = recipe._data_of_parts()
    asked = {parts[index].turns[0].text.partition(" ")[0] for index in range(40)}
    assert asked == {f"[{task}]" for task in TASKS}
    assert parts[0].texts != recipe.training_data()[0].texts


@pytest.fixture(scope="module")
def one_map(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniGPT-4 on the other run's parts."""
    folder, parts = tmp_path_factory.mktemp("minigpt4") / "run", run / "artifacts"
    given = ["--image_tower", str(parts / "tower"), "--language_model", str(parts / "language")]
    short = ["--budget.steps", "2", "--pairs.steps", "2", "--few", "4", "--log_every", "1", *SHORT[:4]]
    assert main(["train", "minigpt4_tiny", "--run", str(folder), *given, *short]) == 0
    return folder


def test_one_map_is_trained_in_two_rounds(one_map: Path) -> None:
    lines = RunFolder(one_map).lines()
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["pairs", "train"]
    assert all(set(lines[at]["evaluation"]) == {"answered", "swapped"} for at in (1, -1))  # after each of them

    def tensors(stage: str) -> dict[str, torch.Tensor]:
        return state.read(checkpoint.latest(RunFolder(one_map), stage) / checkpoint.TENSORS)

    first, second = tensors("pairs"), tensors("train")
    changed = {name for name in first if name.startswith("task/") and not torch.equal(first[name], second[name])}
    assert changed == {"task/model.connector.map.weight", "task/model.connector.map.bias"}


def test_the_second_round_is_short_and_its_words_were_told() -> None:
    recipe = minigpt4_tiny()
    few, whole = recipe.conversations(), recipe.training_data()
    assert len(few) == 400 and few.keys()[:3] == whole.keys()[:3] and few[0].turns == whole[0].turns
    read, plain = recipe.words_source(), recipe._data_of_parts()
    kinds = {"caption": 0, "told": 0, "asked": 0}
    for index in range(40):
        now, was = read[index], plain[index]
        assert not now.visuals and now.turns[-1].role == "assistant"
        if now.turns[0].text == recipe.prompt:
            kinds["caption"] += now.turns[1].text == was.texts[0]
        else:
            kinds["told"] += now.turns[0].text == f"{was.texts[0]}\n{was.turns[0].text}"
            kinds["asked"] += now.turns == was.turns
    assert sum(kinds.values()) == 40 and min(kinds.values()) > 3


def test_a_swapped_picture_is_that_of_another_question() -> None:
    source = Scenes("val", 30, SceneConfig(48, 2))

    class Sees:
        def answer(self, images: Sequence[Any], asked: Sequence[str]) -> list[str]:
            said = {source[index].image.name: source[index].turns[1].text for index in range(30)}
            return [said[image.name].upper() for image in images]

    assert answered(Sees(), source, 30) == 1.0  # type: ignore[arg-type]
    texts = [source[index].turns[1].text for index in range(30)]
    by_chance = sum(a == b for a, b in zip(texts, [*texts[1:], texts[0]], strict=True)) / 30
    assert answered(Sees(), source, 30, "swapped") == by_chance < 0.7  # type: ignore[arg-type]


def test_kinds_of_output_are_told_apart() -> None:
    source = Scenes("val", 60, SceneConfig(48, 2, words=0.0))
    for index in range(60):
        for task, talks in conversations(source[index]).items():
            if task != "vqa":
                assert {kind_of(turns[1].text) for turns in talks} <= {task}
    for text in ("", "{<1><2><3>}", "{<1><2><3><4>}{<1><2><3><4>}", "a {<1><2><3><4>} b", "<p>a b c d</p> {<9><2><3>}"):
        assert kind_of(text) is None, text


def test_a_model_that_does_not_heed_its_task_is_told() -> None:
    class Deaf:
        def generate_text(self, prompts: Sequence[Any], sampling: Any) -> list[str]:
            return ["a red circle and a blue star"] * len(prompts)

    found = kinds_of_output(Deaf(), Scenes("val", 20, SceneConfig(48, 2)), 20)  # type: ignore[arg-type]
    assert found == {"kind_caption": 1.0, "kind_grounding": 0.0, "kind_refer": 0.0, "kind_identify": 0.0}
