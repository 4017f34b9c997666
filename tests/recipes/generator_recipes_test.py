"""The recipes of models that make pictures, cut short: every stage is trained, kept and handed on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.errors import ConfigError
from diptych.core.records.run_folder import RunFolder
from diptych.core.sampling import ImageSampling, TextSampling
from diptych.core.visual import Image
from diptych.evaluation.reporting.progress_pictures import read_pictures
from diptych.models.generative import imagen
from diptych.recipes.imagen_tiny import ImagenRun
from diptych.training import checkpoint, state

DATA = "scenes?size=32&objects=1&words=0&zoom=2&patterns=0&noise=0&count=48"
SHORT = ["--data", DATA, "--batch_size", "8", "--budget.steps", "4", "--evaluate_every", "4", "--log_every", "1"]
STAGES = {
    "stable_diffusion_tiny": (["--autoencoder.steps", "2", "--tower.steps", "2", "--model.steps", "2"],
                              ["autoencoder", "contrast", "train"]),
    "parti_tiny": (["--codes.steps", "2", "--reranker.steps", "2"], ["codes", "contrast", "train"]),
    "chameleon_tiny": (["--codes.steps", "2"], ["codes", "train"]),
    "cm3leon_tiny": (["--codes.steps", "2", "--retriever.steps", "2"], ["codes", "contrast", "train"]),
    "imagen_tiny": (["--language.steps", "2", "--model.steps", "2", "--enlarging", "1"],
                    ["language", "pixels_8", "pixels_16", "pixels_32"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One short run of each."""
    folder = tmp_path_factory.mktemp("runs")
    for name, (more, _) in STAGES.items():
        assert main(["train", name, "--run", str(folder / name), "--threads", "1", *SHORT, *more]) == 0, name
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_a_short_run_goes_through_its_stages_and_makes_pictures(runs: Path, name: str) -> None:
    folder = RunFolder(runs / name)
    lines = folder.lines()
    assert list(dict.fromkeys(line["stage"] for line in lines)) == STAGES[name][1]
    last = [line for line in lines if line["stage"] == STAGES[name][1][-1]]
    assert [line["step"] for line in last] == [1, 2, 3, 4]
    assert {"object", "colour", "all"} <= last[-1]["evaluation"].keys()
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines)
    kept = read_pictures(folder.path / "pictures")[STAGES[name][1][-1]]
    assert [len(rows) for rows in kept.values()] == [4]
    model = load(folder.path)
    first, again = (model.generate_image(["a red circle"], [3], ImageSampling(guidance=1.0)) for _ in range(2))
    assert first[0].pixels_HWC.shape == (32, 32, 3) and (first[0].pixels_HWC == again[0].pixels_HWC).all()


def test_stages_of_imagen_hand_on_their_averaged_weights(runs: Path) -> None:
    folder = RunFolder(runs / "imagen_tiny")
    tensors = {
        stage: state.read(checkpoint.latest(folder, stage) / checkpoint.TENSORS) for stage in STAGES["imagen_tiny"][1]
    }
    name = "model.unets.0.conv_in.weight"
    first, last = tensors["pixels_8"], tensors["pixels_32"][f"task/{name}"]
    assert torch.equal(last, first[f"average/{name}"]) and not torch.equal(last, first[f"task/{name}"])
    words = tensors["language"]["task/text.embedding.weight"]
    assert torch.equal(tensors["pixels_32"]["task/model.text.embedding.weight"], words)


def test_parts_that_were_trained_first_stay_as_they_were(runs: Path) -> None:
    for name, stage, prefix, there in (
        ("stable_diffusion_tiny", "autoencoder", "task/model.decoder.", "task/model.autoencoder.decoder."),
        ("stable_diffusion_tiny", "contrast", "task/model.text.", "task/model.text."),
        ("parti_tiny", "contrast", "task/model.", "task/model.reranker."),
        ("chameleon_tiny", "codes", "task/model.", "task/model.tokenizer."),
        ("cm3leon_tiny", "codes", "task/model.", "task/model.tokenizer."),
    ):
        folder = RunFolder(runs / name)
        before, after = (state.read(checkpoint.latest(folder, one) / checkpoint.TENSORS) for one in (stage, "train"))
        same = [key for key in before if key.startswith(prefix)]
        assert same
        for key in same:
            assert torch.equal(after[there + key.removeprefix(prefix)], before[key]), (name, key)


def test_the_report_shows_what_was_made(runs: Path) -> None:
    assert main(["report", str(runs / "parti_tiny")]) == 0
    page = (runs / "parti_tiny" / "report.html").read_text(encoding="utf-8")
    assert "Made at several steps of stage train" in page and "Made at several steps of stage codes" in page


def test_interleaved_documents_are_trained_on(tmp_path: Path) -> None:
    """Any recipe of documents, on albums of several pictures; what was trained goes on with one."""
    words = ["--data", DATA + "&kind=documents", "--interleaved", "2", "--codes.steps", "2", "--model.context", "256"]
    short = [*SHORT[2:], "--budget.steps", "2"]
    assert main(["train", "chameleon_tiny", "--run", str(tmp_path / "run"), "--threads", "1", *words, *short]) == 0
    model = load(tmp_path / "run")
    image = model.generate_image(["a red circle"], [3])[0]
    for part in model.continue_document(["A short album.", image], TextSampling(90, temperature=1.0), 1):
        assert isinstance(part, str | Image)
    assert main(["train", "chameleon_tiny", "--run", str(tmp_path / "x"), "--interleaved", "-1"]) != 0


def test_what_does_not_fit_is_said_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "parti_tiny", "--run", str(tmp_path / "a"), "--image.size", "48", *SHORT]) != 0
    assert "must be the same" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no folder at"):
        ImagenRun(name="x", t5=str(tmp_path / "t5"), model=replace(imagen.Config.tiny(), t5=True))
    with pytest.raises(ConfigError, match="switch it off"):
        ImagenRun(name="x", t5=str(tmp_path))
