"""`diptych check`: every recipe is tried on scenes, and what would fail is one sentence and exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from refusals import sentence_of
from safetensors.torch import save_file

from diptych.capabilities.folder import write_model
from diptych.cli import main
from diptych.commands._check_tables import _operations, in_seconds
from diptych.core import discovery
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.causal_block import CausalConfig
from diptych.models.contrastive import clip
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._llama import Llama, LlamaConfig, described, public_state
from diptych.recipes.vit_tiny import vit_tiny
from diptych.training.preflight import check_trainer
from diptych.training.preflight.check import check

SMALL = ["--threads", "1", "--loader_threads", "1", "--batch_size", "16"]


def towers(folder: Path) -> list[str]:
    """A picture tower and a text tower of a layer each, as `transformers` folders."""
    pytest.importorskip("transformers")
    from diptych.layers.backbone_folder import tiny_text_backbone, tiny_vision_backbone

    tokenizer = Tokenizer.fit(["a red circle left of a blue square"], 300)
    for name, model in (("image", tiny_vision_backbone()), ("text", tiny_text_backbone(tokenizer.vocab_size))):
        (folder / name).mkdir(parents=True)
        model.save_pretrained(folder / name)  # type: ignore[operator]
    tokenizer.write(folder / "text" / "tokenizer.json")
    plain = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "image" / "preprocessor_config.json").write_text(json.dumps(plain))
    return [
        "--image_tower",
        str(folder / "image"),
        "--text_tower",
        str(folder / "text"),
        "--image_size",
        "32",
        "--max_length",
        "64",
    ]


def backbone(folder: Path) -> list[str]:
    """A convolutional picture tower, as a `transformers` folder."""
    transformers = pytest.importorskip("transformers")
    transformers.MobileNetV2Model(transformers.MobileNetV2Config(depth_multiplier=0.1)).save_pretrained(folder)
    plain = {"size": 160, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(plain))
    return ["--image_tower", str(folder)]


def base(folder: Path) -> list[str]:
    """A tiny CLIP that has learned nothing."""
    source = Scenes("train", 8, SceneConfig(objects=1))
    folder.mkdir(parents=True)
    write_model(clip.tiny_tasks([source[index] for index in range(8)])["contrastive"].predictor(), folder)
    return ["--base", str(folder)]


def spoken_parts(folder: Path) -> list[str]:
    """A picture tower and a language model of a layer each, as `transformers` folders."""
    tower = towers(folder)[:2]
    words = Tokenizer.read(folder / "text" / "tokenizer.json")
    model = Llama(LlamaConfig(CausalConfig(32, 1, 2, 64), words.vocab_size, 256))
    (folder / "text" / "config.json").write_text(json.dumps(described(model.config)))
    save_file(public_state(model), folder / "text" / "model.safetensors")
    (folder / "text" / "pytorch_model.bin").unlink(missing_ok=True)
    return [*tower, "--language_model", str(folder / "text"), "--image.size", "32", "--no-compile-tower"]


def talker(folder: Path) -> list[str]:
    """A tiny LLaVA that has learned nothing."""
    source = Scenes("train", 8, SceneConfig(objects=1))
    folder.mkdir(parents=True)
    write_model(llava.tiny_tasks([source[index] for index in range(8)])["average"].predictor(), folder)
    return ["--base", str(folder)]


NEEDED: dict[str, Callable[[Path], list[str]]] = {
    "flickr8k_lit": towers,
    "flickr8k_flava": backbone,
    "flickr8k_coca": backbone,
    "flickr8k_maskvlm": backbone,
    "flickr8k_captioner": spoken_parts,
    "clip_finetune": base,
    "llava_finetune": talker,
    "few_shot": lambda folder: [*base(folder), "--shots", "16"],  # 96 pictures of six classes
}
"""What recipes need besides data."""


DATA = {
    "vit_tiny": "scenes?count=96&objects=1",
    "few_shot": "scenes?count=300&objects=1",
    "flamingo_tiny": "scenes?count=300&objects=1",
    "frozen_tiny": "scenes?count=300&objects=1",
}


def scenes(name: str) -> list[str]:
    return ["--data", DATA.get(name, "scenes?count=96"), *SMALL]


MANY_STAGES = {
    "flickr8k_flava", "imagen_tiny", "minigpt4_tiny", "minigpt5_tiny", "minigpt_v2_tiny", "stable_diffusion_tiny",
}  # fmt: skip
"""Each stage is tried: these take half a minute or more, and other tests run them quickly."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in MANY_STAGES else []) for name in discovery.recipes()],
)
def test_every_recipe_is_tried(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = NEEDED[name](tmp_path / "towers") if name in NEEDED else []
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("CXX", "none")  # compiling a frozen tower takes longer than all the rest
    monkeypatch.chdir(tmp_path / "here")
    assert main(["check", name, *scenes(name), *more]) == 0
    said = capsys.readouterr().out
    for word in (
        "parameters",
        "optimizer state",
        "96",
        "gradient norm",
        "a checkpoint",
        "the whole stage",
        "memory",
        "FLOP a",
    ):
        assert word in said, said
    left = [path.name for path in Path().iterdir()]
    if name == "flickr8k_lit":
        assert left == []  # it reads cached features: there is no picture to show
        return
    assert left == [f"check_{name}.png"]
    if name == "flickr8k_captioner":
        return  # it reads cached features too, so the sheet shows the words alone
    with Image.open(left[0]) as picture:
        assert (picture.mode, picture.width) == ("RGB", 1216)
        assert len(picture.getcolors(maxcolors=1 << 20) or []) > 1000  # noisy backgrounds were drawn


def test_towers_are_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", "flickr8k_lit", *scenes("flickr8k_lit"), "--run", str(tmp_path / "run")]) == 2
    assert "name a transformers folder with --image_tower PATH" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_captions_longer_than_the_tower_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [*towers(tmp_path / "towers"), "--max_length", "65", "--run", str(tmp_path / "run")]
    assert main(["check", "flickr8k_lit", *scenes("flickr8k_lit"), *more]) == 2
    assert "texts of up to 65 tokens do not fit the 64 positions of" in capsys.readouterr().err


def test_warnings_are_printed_and_the_picture_goes_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "deep" / "seen.png", tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()
    where = ["--run", str(run), "--out", str(out), "--processes", "2"]
    assert main(["check", "clip_tiny", *scenes("clip_tiny"), "--context", "9", *where]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "fill the context of 9 tokens" in said
    assert "16 over 2 processes: 8 each" in said
    assert "holds a run already" in said
    assert out.is_file() and sorted(path.name for path in tmp_path.iterdir()) == ["deep", "run"]


def test_a_disk_that_is_too_small_fails_after_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_trainer, "free_disk", lambda path: 0)
    more = ["--run", str(tmp_path / "run"), "--out", str(tmp_path / "seen.png")]
    assert main(["check", "vit_tiny", *scenes("vit_tiny"), *more]) == 2
    printed = capsys.readouterr()
    assert "gradient norm" in printed.out
    assert printed.err.splitlines()[-1].startswith("diptych: stage 'train': 3 checkpoints of 5.")
    assert "do not fit" in printed.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["clip_tyni"], "did you mean 'clip_tiny'?"),
        (["vit_tiny", "--model.vision.widht", "3"], "did you mean 'model.vision.width'?"),
        (["vit_tiny", "--data", "nowhere"], "no data at nowhere"),
        (["vit_tiny", "--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["vit_tiny", "--image.size", "65"], "the processor makes pictures of 65 pixels, the tower takes 64"),
        (["vit_tiny", "--processes", "0"], "--processes 0: there is at least one"),
        (["vit_tiny", "--batch_size", "4", "--processes", "5"], "batch_size 4 is smaller than the number of processes"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in sentence_of(["check", *arguments], capsys)


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: check_trainer.CheckTrainer) -> tuple[float, float]:
        assert [path.name.startswith(".diptych-check-") for path in tmp_path.iterdir()] == [True]
        raise KeyboardInterrupt

    monkeypatch.setattr(check_trainer.CheckTrainer, "_timed", interrupted)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "vit_tiny", *scenes("vit_tiny")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_ends_it_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "diptych.cli", "check", "vit_tiny", "--data", "scenes?count=5000&objects=1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    assert any(b"a first step" in line for line in process.stderr)
    assert [path.name.startswith(".diptych-check-") for path in tmp_path.iterdir()] == [True]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_operations_of_a_step_and_of_the_whole_run(tmp_path: Path) -> None:
    """Two processes do half of a step each, six steps: 3 GFLOP each make 36."""
    found = check(replace(vit_tiny(), data="scenes?count=96&objects=1", batch_size=16), tmp_path / "run")[0]
    known = replace(
        found,
        flops=3 * 10**9,
        time=replace(found.time, step=2.0, steps=6),
        data=replace(found.data, processes=2),
    )
    (row,) = _operations(known)
    assert row == ("operations", "3 GFLOP a step and process, 36 GFLOP in all; 1.5 GFLOP/s here")


def test_times_as_people_say_them() -> None:
    assert [in_seconds(s) for s in (0.0123, 2.345, 42.4, 600, 9000)] == ["12 ms", "2.3 s", "42 s", "10 min", "2.5 h"]
