"""llava_tiny cut short: parts trained first and written as folders, two rounds, and folders of somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.records.results import read_result
from diptych.core.records.run_folder import RunFolder
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.data.derived.without import WithoutPictures, WithoutTurns
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.chat import PlainTemplate
from diptych.models.pretrained_backbone import llava
from diptych.recipes._answer_rates import answered
from diptych.recipes.llava_tiny import llava_tiny
from diptych.training import checkpoint, state

SHORT = ["--data", "scenes?size=48&objects=2&words=0&count=64", "--batch_size", "8", "--budget.steps", "3",
         "--captions.steps", "2", "--evaluate_every", "3", "--log_every", "1"]  # fmt: skip
PARTS = ["--contrast.steps", "2", "--words.steps", "2", "--language.tied"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava") / "run"
    assert main(["train", "llava_tiny", "--run", str(folder), *SHORT, *PARTS]) == 0
    return folder


def test_parts_are_trained_first_then_both_rounds(run: Path) -> None:
    lines = RunFolder(run).lines()
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["contrast", "words", "captions", "train"]
    assert "answered" in lines[-1]["evaluation"]
    (text,) = load(run).generate_text([[Scenes("test", 1)[0].image, "what?"]], TextSampling(4))
    assert isinstance(text, str)


def test_what_is_frozen_in_a_round_stays(run: Path) -> None:
    """The tower always; the language model in the first round; the connector is handed on to the second."""

    def tensors(stage: str) -> dict[str, torch.Tensor]:
        return state.read(checkpoint.latest(RunFolder(run), stage) / checkpoint.TENSORS)

    first, second, words = tensors("captions"), tensors("train"), tensors("words")
    tower = [name for name in first if name.startswith("task/model.tower.")]
    language = [name for name in first if name.startswith("task/model.language.")]
    assert tower and all(torch.equal(first[name], second[name]) for name in tower)
    for name in language:
        own = words[name.replace("task/model.language.", "task/model.")]
        assert torch.equal(first[name], own), name
    assert any(not torch.equal(first[name], second[name]) for name in language)


def test_folders_take_the_place_of_own_parts(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--image_tower", str(run / "artifacts" / "tower"), "--language_model", str(run / "artifacts" / "language")]
    cached = ["--cached", "--cache", str(tmp_path / "features")]
    assert main(["train", "llava_tiny", "--run", str(tmp_path / "given"), *SHORT, *given, *cached]) == 0
    assert len(list((tmp_path / "features").iterdir())) == 1  # of both rounds
    lines = RunFolder(tmp_path / "given").lines()
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["captions", "train"]
    assert main(["train", "llava_tiny", "--run", str(tmp_path / "x"), *SHORT, "--image_tower", "nowhere"]) != 0
    assert "--image_tower: no folder at nowhere" in capsys.readouterr().err


def test_a_captioner_on_folders_reports_captions_beside_those_of_neighbours(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"image_tower": run / "artifacts" / "tower", "language_model": run / "artifacts" / "language"}
    options = ["--data", "scenes?size=48&count=40&min_objects=2", "--image.size", "48", "--batch_size", "8"]
    options += ["--budget.samples", "0", "--budget.steps", "2", "--evaluate_every", "0", "--no-compile-tower"]
    words = [word for name, folder in given.items() for word in (f"--{name}", str(folder))]
    assert main(["train", "flickr8k_captioner", "--run", str(tmp_path / "run"), *options, *words]) == 0
    result = read_result(RunFolder(tmp_path / "run").evaluation / "captioning")
    assert result.split == "val" and result.counts.evaluated == 40
    said = capsys.readouterr().out
    for name in ("cider", "cider_nearest_picture", "cider_consensus_of_30", "cider_constant_caption"):
        assert f"val {name} {result.metrics[name].value:.3f}" in said
    model = load(tmp_path / "run")
    assert isinstance(model, llava.LlavaPredictor)
    assert model.processor.template == PlainTemplate(user="<start>", assistant="", between="", end="<end>")
    pixels = model.pixels([Scenes("test", 1)[0].image])
    (vector,) = model.encode_image([Scenes("test", 1)[0].image])
    mean = model.module.tower(pixels).mean(1)[0]
    torch.testing.assert_close(vector, mean / mean.norm())
    for name in given:
        others = [word for word in words if word not in (f"--{name}", str(given[name]))]
        assert main(["train", "flickr8k_captioner", "--run", str(tmp_path / name), *options, *others]) != 0
        assert f"name a transformers folder with --{name} PATH" in capsys.readouterr().err


def test_parts_are_trained_on_other_scenes() -> None:
    recipe = llava_tiny()
    own, parts = recipe.training_data(), recipe._data_of_parts()
    assert own.fingerprint() != parts.fingerprint()
    assert own[0].texts != parts[0].texts or own[1].texts != parts[1].texts


def test_sources_without_a_side() -> None:
    whole = Scenes("train", 3, SceneConfig(32, 1))
    words, captions = WithoutPictures(whole), WithoutTurns(whole)
    assert len({whole.fingerprint(), words.fingerprint(), captions.fingerprint()}) == 3
    assert words[1].visuals == () and words[1].turns == whole[1].turns and words.keys() == whole.keys()
    assert captions[1].turns == () and captions[1].texts == whole[1].texts and len(captions) == 3


def test_answers_count_word_for_word() -> None:
    source = Scenes("test", 20, SceneConfig(32, 1))

    class Knows:
        def answer(self, images: list[object], asked: list[str]) -> list[str]:
            said = {sample.turns[0].text: sample.turns[1].text for sample in map(source.__getitem__, range(20))}
            return [f" {said[one].upper()}. " for one in asked]

    class Mute:
        def answer(self, images: list[object], asked: list[str]) -> list[str]:
            return [""] * len(asked)

    assert answered(Mute(), source, 20) == 0.0  # type: ignore[arg-type]
    assert answered(Knows(), source, 10) > 0.5  # type: ignore[arg-type]
    assert isinstance(source[0], Sample)
