"""minigpt5_tiny cut short: every part is trained first and never moves again; what a second stage is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.errors import ConfigError
from diptych.core.records.run_folder import RunFolder
from diptych.core.sampling import ImageSampling
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.contrastive import clip
from diptych.recipes.minigpt5_tiny import minigpt5_tiny
from diptych.training import checkpoint, state

DATA = "scenes?size=32&objects=1&words=0&zoom=2&patterns=0&noise=0&count=8"
STAGES = ("contrast", "words", "latents", "denoising", "alignment")
COMMON = ["--data", DATA, "--batch_size", "4", "--budget.steps", "1", "--evaluate_every", "1", "--log_every", "1"]
SHORT = [*COMMON,
         *(one for name in STAGES for one in (f"--{name}.steps", "1", f"--{name}.batch_size", "4")),
         "--painter.steps", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minigpt5") / "run"
    assert main(["train", "minigpt5_tiny", "--run", str(folder), *SHORT]) == 0
    return folder


def tensors(run: Path, stage: str) -> dict[str, torch.Tensor]:
    found = state.read(checkpoint.latest(RunFolder(run), stage) / checkpoint.TENSORS)
    return {name.removeprefix("task/"): one for name, one in found.items() if name.startswith("task/")}


@pytest.mark.slow
def test_its_parts_are_trained_first_and_stay(run: Path) -> None:
    lines = RunFolder(run).lines()
    stages = ["contrast", "words", "autoencoder", "diffusion", "alignment", "train"]
    assert list(dict.fromkeys(line["stage"] for line in lines)) == stages
    wanted = {f"{name}{end}" for name in ("object", "colour", "all") for end in ("", "_others")}
    assert set(lines[-1]["evaluation"]) == wanted
    first, second = tensors(run, "alignment"), tensors(run, "train")
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    may = ("model.language.embedding", "model.language.head", "model.mapper.encoder", "model.mapper.decoder")
    assert moved and all("lora_" in name or name.startswith(("model.connector", *may)) for name in moved)
    drawn = tensors(run, "diffusion")
    averaged = state.read(checkpoint.latest(RunFolder(run), "diffusion") / checkpoint.TENSORS)
    for name, weight in drawn.items():
        kept = averaged.get(f"average/{name}", weight)
        assert torch.equal(second[name.replace("model.", "model.diffusion.", 1)], kept), name
    text = tensors(run, "contrast")["model.text.embedding.weight"]
    assert torch.equal(text, second["model.diffusion.text.embedding.weight"])


@pytest.mark.slow
def test_the_saved_model_draws_and_goes_on(run: Path) -> None:
    model = load(run)
    one, two = (model.generate_image(["a red circle"], [3], ImageSampling(steps=2)) for _ in range(2))
    assert (one[0].pixels_HWC == two[0].pixels_HWC).all()
    assert isinstance(model.continue_document(["A short album."]), list)


@pytest.mark.slow
def test_it_draws_with_a_finished_run_of_stable_diffusion(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of it is trained again, all of it is in the saved model, and the folder it came from may go."""
    folder = tmp_path_factory.mktemp("drawn_with")
    monkeypatch.chdir(folder)
    short = [one for name in ("autoencoder", "tower", "model") for one in (f"--{name}.steps", "1")]
    assert main(["train", "stable_diffusion_tiny", "--run", "painter", *COMMON, *short]) == 0
    short = [one for name in ("contrast", "words", "alignment") for one in (f"--{name}.steps", "1")]
    assert main(["train", "minigpt5_tiny", "--run", "run", "--diffusion", "painter", *COMMON, *short]) == 0
    stages = dict.fromkeys(line["stage"] for line in RunFolder(folder / "run").lines())
    assert list(stages) == ["contrast", "words", "alignment", "train"]
    painter = load("painter").module.state_dict()
    (folder / "painter").rename(folder / "elsewhere")
    model = load("run")
    own = model.module.state_dict()
    assert painter and all(torch.equal(own[f"diffusion.{name}"], weight) for name, weight in painter.items())
    (drawn,) = model.generate_image(["a red circle"], [3], ImageSampling(steps=2))
    assert drawn.pixels_HWC is not None and drawn.pixels_HWC.shape == (32, 32, 3)


def test_the_second_stage_reads_documents_of_the_same_scenes() -> None:
    recipe = minigpt5_tiny()
    pages = recipe.pages()
    assert len(pages[0].visuals) >= 2 and pages[0].parts[0] == "A short album."
    assert recipe.words_source()[0].visuals == ()


def test_a_model_of_another_kind_does_not_draw(tmp_path: Path) -> None:
    source = Scenes("train", 8, SceneConfig(32, 1))
    write_model(clip.tiny_tasks([source[index] for index in range(8)])["contrastive"].predictor(), tmp_path)
    context: Any = None  # not looked at
    with pytest.raises(ConfigError, match="holds no Stable Diffusion but clip"):
        replace(minigpt5_tiny(), diffusion=str(tmp_path)).painter_of(context)


def test_what_cannot_be_trained_is_refused_before_anything_is(tmp_path: Path) -> None:
    recipe = minigpt5_tiny()
    with pytest.raises(ConfigError, match="name data whose samples have parts with --documents"):
        replace(recipe, data="pictures")
    with pytest.raises(ConfigError, match="no folder at nowhere"):
        replace(recipe, diffusion="nowhere")
    with pytest.raises(ConfigError, match="give --diffusion beside --image_tower, or neither"):
        replace(recipe, image_tower=str(tmp_path))
