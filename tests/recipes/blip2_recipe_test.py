"""blip2_tiny cut short: parts are trained first, then the Q-Former in three rounds; the parts never change again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.records.run_folder import RunFolder
from diptych.core.sampling import TextSampling
from diptych.data.scenes.source import Scenes
from diptych.training import checkpoint, state

SHORT = ["--data", "scenes?size=48&objects=2&words=0&count=64", "--batch_size", "8", "--budget.steps", "3",
         "--first.steps", "2", "--first.batch_size", "8", "--captions.steps", "2", "--captions.batch_size", "8",
         "--evaluate_every", "3", "--log_every", "1"]  # fmt: skip
PARTS = ["--contrast.steps", "2", "--words.steps", "2", "--contrast.batch_size", "8", "--words.batch_size", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip2") / "run"
    assert main(["train", "blip2_tiny", "--run", str(folder), *SHORT, *PARTS]) == 0
    return folder


def tensors(run: Path, stage: str) -> dict[str, torch.Tensor]:
    return state.read(checkpoint.latest(RunFolder(run), stage) / checkpoint.TENSORS)


def test_parts_are_trained_first_then_three_rounds(run: Path) -> None:
    lines = RunFolder(run).lines()
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    assert stages == ["contrast", "words", "queries", "captions", "train"]
    assert lines[-1]["evaluation"].keys() >= {"answered", "withheld", "swapped"}
    (text,) = load(run).generate_text([[Scenes("test", 1)[0].image, "what?"]], TextSampling(4))
    assert isinstance(text, str)


def test_tower_and_language_model_never_change(run: Path) -> None:
    """Bit for bit, from where they were trained to the end; the Q-Former does in every round."""
    rounds = {stage: tensors(run, stage) for stage in ("queries", "captions", "train")}
    tower = [name for name in rounds["queries"] if name.startswith("task/model.tower.")]
    assert tower and all(
        torch.equal(rounds["queries"][name], rounds[stage][name]) for name in tower for stage in rounds
    )
    words = tensors(run, "words")
    language = [name for name in rounds["train"] if name.startswith("task/model.language.")]
    for name in language:
        own = words[name.replace("task/model.language.", "task/model.")]
        assert torch.equal(rounds["captions"][name], own) and torch.equal(rounds["train"][name], own), name
    assert language
    owners = {"queries": "qformer", "captions": "connector.qformer", "train": "connector.qformer"}
    queries = [rounds[stage][f"task/model.{owner}.queries_QD"] for stage, owner in owners.items()]
    assert not torch.equal(queries[0], queries[1]) and not torch.equal(queries[1], queries[2])


def test_queries_may_be_told_what_is_asked(run: Path, tmp_path: Path) -> None:
    """On the parts of the run before, given as folders; the first round is the same, the bridge reads text."""
    given = ["--image_tower", str(run / "artifacts" / "tower"), "--language_model", str(run / "artifacts" / "language")]
    assert main(["train", "blip2_tiny", "--run", str(tmp_path), *SHORT, *given, "--instructed"]) == 0
    stages = list(dict.fromkeys(line["stage"] for line in RunFolder(tmp_path).lines()))
    assert stages == ["queries", "captions", "train"]
    assert "task/model.connector.qformer.words.weight" in tensors(tmp_path, "train")
    assert load(tmp_path).name == "instructblip"
