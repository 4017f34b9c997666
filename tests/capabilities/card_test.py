"""The card of an exported folder says what the run's files say, and the upload is what the user asked for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import yaml
from toy import ToyPredictor

from diptych.capabilities import card
from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.records.results import Counts, Metric, Result, write_result
from diptych.core.records.run_folder import RunFolder


def write_toy(predictor: ToyPredictor, folder: Path) -> None:
    """What a model's file would write."""
    (folder / "config.json").write_text(json.dumps({"architectures": ["Toy"]}))
    (folder / card.CARD).write_text(card.begun("toy", "Toy", 9, "transformers", "Use it.", "image-to-text"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a toy with two evaluations, one of them broken off."""
    monkeypatch.setattr("toy.export_to", write_toy, raising=False)
    place = RunFolder(tmp_path / "run")
    config = {"name": "toy_tiny", "data": "flowers/ 100%", "batch_size": 64}
    saved = place.checkpoints / "main-00000120" / "model"
    saved.mkdir(parents=True)
    write_model(ToyPredictor(), saved)
    place.config.write_text(yaml.safe_dump(config), encoding="utf-8")
    place.environment.write_text(json.dumps({"commit": "abc123"}))
    metrics = {"r1": Metric(0.25, 0.2, 0.3125, 0.01, 400), "rank": Metric(17.5, n=400, unit="number")}
    result = Result("retrieval", "toy", "flowers", metrics, Counts(400), {}, split="test")
    for name in ("retrieval", "half"):
        (place.evaluation / name).mkdir(parents=True)
    write_result(result, place.evaluation / "retrieval")
    (place.evaluation / "half" / "result.json").write_text('{"benchmark":')
    return place.path


def test_the_card_has_licence_data_settings_and_numbers(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), str(tmp_path / "out"), "--license", "cc-by-4.0"]) == 0
    said = (tmp_path / "out" / card.CARD).read_text(encoding="utf-8")
    front = yaml.safe_load(said.split("---")[1])
    assert front == {"license": "cc-by-4.0", "library_name": "transformers", "pipeline_tag": "image-to-text"}
    assert "Recipe `toy_tiny` on `flowers/ 100%`; the weights are those of `main-00000120`, at commit `abc123`." in said
    assert "batch_size: 64" in said and card.UNSAID not in said
    assert "| retrieval | flowers test | r1 | 0.250 | 0.200 to 0.312 | 0.010 | 400 |" in said
    assert "| retrieval | flowers test | rank | 17.5 |  |  | 400 |" in said


def test_where_the_run_is_not_known_the_card_asks_for_it(run: Path, tmp_path: Path) -> None:
    model = run / "checkpoints" / "main-00000120" / "model"
    assert main(["export", str(model), str(tmp_path / "out")]) == 0
    said = (tmp_path / "out" / card.CARD).read_text(encoding="utf-8")
    assert card.UNSAID in said and "license" not in said and load(model).name == "toy"


class FakeHub:
    """Keeps what it is told."""

    told: list[tuple[str, Any]]
    refuses: Exception | None = None

    def create_repo(self, repository: str, private: bool, exist_ok: bool) -> Any:
        self.told.append(("create", (repository, private, exist_ok)))
        return SimpleNamespace(repo_id=f"me/{repository}")

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.told.append(("upload", (repo_id, sorted(path.name for path in folder_path.iterdir()))))
        return f"https://hub/{repo_id}/commit/1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    fake.told = []
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    return fake


@pytest.mark.parametrize("public", [True, False])
def test_a_push_makes_the_repository_and_uploads_the_folder(
    public: bool, run: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--public"] if public else []
    assert main(["export", str(run), str(tmp_path / "out"), "--license", "mit", "--push", "toy", *more]) == 0
    assert hub.told == [("create", ("toy", not public, True)), ("upload", ("me/toy", ["README.md", "config.json"]))]
    assert capsys.readouterr().out.split() == [str(tmp_path / "out"), "https://hub/me/toy/commit/1"]


def test_a_push_that_fails_leaves_the_folder_and_says_how_to_go_on(
    run: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuses = OSError("no route to host\nand a traceback")
    assert main(["export", str(run), str(tmp_path / "out"), "--license", "mit", "--push", "toy"]) == 2
    said = capsys.readouterr().err
    assert "could not be uploaded to toy: no route to host; `hf upload toy" in said and said.count("\n") == 1
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_push_without_a_licence_is_refused_before_anything_is_written(
    run: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), str(tmp_path / "out"), "--push", "toy"]) == 2
    assert main(["export", str(run), str(tmp_path / "out"), "--public"]) == 2
    said = capsys.readouterr().err
    assert "under which licence" in said and "--public says who sees" in said
    assert not (tmp_path / "out").exists() and not hub.told
