"""`evaluate`: what it writes, how it goes on after an interruption, what it counts and what it refuses."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError, MissingVerb, StorageError
from diptych.core.processor import BadSample
from diptych.core.records.results import read_result, read_samples
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.evaluation.runner import evaluate

KINDS = ("swap_attribute", "order")


class Killed(BaseException):
    """The process ends here."""


class Bright(Predictor):
    """Scores a text by its length times the picture's brightness; may die after some calls."""

    VERBS = ("score",)
    name = "bright"

    def __init__(self, weight: float = 1.0, dies_after: int | None = None) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.module.weight, weight)
        self.dies_after, self.calls = dies_after, 0

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        if any(one.pixels_HWC is None for one in visuals):
            raise BadSample(visuals[0].name, "truncated image")
        if self.calls == self.dies_after:
            raise Killed
        self.calls += 1
        bright_N = torch.tensor([float(one.pixels_HWC.mean()) - 100 for one in visuals])
        return bright_N[:, None] * torch.tensor([float(len(text)) for text in texts])

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls()


class Grey:
    """Grey pictures with negatives; those in `bad` have no pixels."""

    name = "grey"

    def __init__(self, count: int = 12, bad: Sequence[int] = ()) -> None:
        self.count, self.bad = count, tuple(bad)

    def __len__(self) -> int:
        return self.count

    def keys(self) -> list[str]:
        return [f"g{i}" for i in range(self.count)]

    def fingerprint(self) -> str:
        return f"grey {self.count} {self.bad}"

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad and index % 2:
            raise BadSample(f"g{index}", "bad archive member")
        pixels = np.full((2, 2, 3), 20 * index, np.uint8)
        image = Image(encoded=b"x") if index in self.bad else Image(pixels_HWC=pixels)
        pairs = {kind: {"true": "a long caption", "false": "short"} for kind in KINDS}
        return Sample(f"g{index}", (image,), meta={"negatives": pairs})


def lines(folder: Path) -> list[str]:
    return (folder / "scene_negatives" / "samples.jsonl").read_text().splitlines()


def test_what_is_returned_is_what_is_written(tmp_path: Path) -> None:
    (result,) = evaluate(Bright(), ["scene_negatives"], Grey(), folder=tmp_path, seed=3)
    plain = json.loads((tmp_path / "scene_negatives" / "result.json").read_text())
    fields = "benchmark model data metrics counts verbs settings split seed seconds data_fingerprint model_hash"
    assert set(plain) == {*fields.split(), "extras", "environment"}
    assert (plain["benchmark"], plain["model"], plain["data"]) == ("scene_negatives", "bright", "grey")
    assert (plain["split"], plain["seed"], plain["verbs"]) == ("test", 3, {"score": "native"})
    assert set(plain["metrics"]["order"]) == {"value", "low", "high", "chance", "n", "unit"}
    # Brightness beyond 100 prefers the longer text: pictures 6 to 11 of 12; picture 5 ties.
    assert plain["metrics"]["order"]["value"] == pytest.approx(6 / 12)
    assert plain["metrics"]["order_expected"]["value"] == pytest.approx(6.5 / 12)
    assert plain["metrics"]["order_tie_rate"]["value"] == pytest.approx(1 / 12)
    assert plain["counts"] == {"evaluated": 12, "failed": 0, "skipped": 0}
    assert {"python", "packages", "cores"} <= set(plain["environment"])
    assert read_result(tmp_path / "scene_negatives") == result
    first = json.loads(lines(tmp_path)[0])
    assert set(first) == {"key", "status", "prompt", "output", "values"}
    assert (first["key"], first["prompt"]) == ("g0#swap_attribute", ["a long caption", "short"])


@pytest.mark.parametrize("dies_after", [1, 7, 23])
def test_killed_in_the_middle_it_goes_on(dies_after: int, tmp_path: Path) -> None:
    (whole,) = evaluate(Bright(), ["scene_negatives"], Grey(), folder=tmp_path / "whole")
    folder = tmp_path / "resumed"
    with pytest.raises(Killed):
        evaluate(Bright(dies_after=dies_after), ["scene_negatives"], Grey(), folder=folder)
    assert len(lines(folder)) == dies_after
    with (folder / "scene_negatives" / "samples.jsonl").open("a") as file:
        file.write('{"key": "g9#ord')  # cut off by the kill
    second = Bright()
    (resumed,) = evaluate(second, ["scene_negatives"], Grey(), folder=folder)
    assert second.calls == 24 - dies_after
    assert lines(folder) == lines(tmp_path / "whole")
    assert (resumed.metrics, resumed.counts) == (whole.metrics, whole.counts)


@pytest.mark.parametrize("change", ["model", "data", "seed", "limit"])
def test_lines_of_another_evaluation_are_not_kept(change: str, tmp_path: Path) -> None:
    evaluate(Bright(), ["scene_negatives"], Grey(), folder=tmp_path)
    model = Bright(weight=2.0 if change == "model" else 1.0)
    data = Grey(11) if change == "data" else Grey()
    evaluate(
        model,
        ["scene_negatives"],
        data,
        folder=tmp_path,
        seed=int(change == "seed"),
        limit=5 if change == "limit" else None,
    )
    assert model.calls == {"data": 22, "limit": 10}.get(change, 24)
    assert len(lines(tmp_path)) == model.calls


def test_a_limit_is_repeatable_and_written_down(tmp_path: Path) -> None:
    (first,) = evaluate(Bright(), ["scene_negatives"], Grey(), folder=tmp_path / "a", limit=4)
    evaluate(Bright(), ["scene_negatives"], Grey(), folder=tmp_path / "b", limit=4)
    assert first.counts.evaluated == 4
    assert first.settings["limit"] == 4
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    assert evaluate(Bright(), ["scene_negatives"], Grey(), limit=99)[0].counts.evaluated == 12


def test_bad_pictures_are_counted_with_their_reason(tmp_path: Path) -> None:
    (result,) = evaluate(Bright(), ["scene_negatives"], Grey(bad=(2, 3, 8)), folder=tmp_path)
    assert (result.counts.evaluated, result.counts.failed, result.counts.skipped) == (9, 3, 0)
    assert result.metrics["order"].n == 9
    status = {record.key: record.status for record in read_samples(tmp_path / "scene_negatives")}
    assert status["g3"] == "bad archive member"
    assert status["g2#order"] == status["g8#swap_attribute"] == "truncated image"


@pytest.mark.parametrize("benchmark", ["scene_negatives", "scene_pairs", "retrieval", "zero_shot_classification"])
def test_nothing_that_can_be_read_is_an_error(benchmark: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        evaluate(Bright(), [benchmark], Grey(3, bad=(0, 1, 2)), folder=tmp_path)
    assert not (tmp_path / benchmark / "result.json").exists()


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown benchmark 'retreival': did you mean 'retrieval'"):
        evaluate(Bright(), ["scene_negatives", "retreival"], Grey())
    with pytest.raises(ConfigError, match=r"no benchmark module named 'nowhere.mine'"):
        evaluate(Bright(), ["nowhere.mine"], Grey())
    with pytest.raises(ConfigError, match="pool"):
        evaluate(Bright(), ["retrieval"], Grey(), settings={"retrieval": {"pol": 3}})
    with pytest.raises(DataError, match=r"no data at .*nowhere"):
        evaluate(Bright(), ["retrieval"], "nowhere.tar")


def test_a_missing_verb_stops_before_anything_runs(tmp_path: Path) -> None:
    model = Bright()
    with pytest.raises(MissingVerb, match="bright has no verb 'encode_image': it offers answer, score, score_pairs"):
        evaluate(model, ["scene_negatives", "knn"], Grey(), folder=tmp_path)
    assert (model.calls, list(tmp_path.iterdir())) == (0, [])


def test_a_benchmark_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_benchmarks").mkdir()
    (tmp_path / "my_benchmarks" / "brightness.py").write_text(
        "from dataclasses import dataclass\n"
        "from diptych.core.records.results import SampleRecord\n"
        "from diptych.evaluation.benchmark import Outcome\n"
        "from diptych.evaluation.statistics import mean_metric\n"
        "REQUIRES = ('score',)\nDATA = 'scenes'\n"
        "@dataclass(frozen=True)\nclass Settings:\n    above: float = 0.0\n"
        "def run(model, source, settings, records):\n"
        "    for sample in records.samples(source):\n"
        "        found = float(model.score([sample.image], ['x'])[0, 0])\n"
        "        records.add(SampleRecord(sample.key, values={'bright': float(found > settings.above)}))\n"
        "    return Outcome({'bright': mean_metric(records.values('bright')[0])})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "my_benchmarks.brightness"
    (result,) = evaluate(Bright(), [name], Grey(), folder=tmp_path, settings={name: {"above": 50.0}})
    assert result.benchmark == "brightness"
    assert result.metrics["bright"].value == pytest.approx(4 / 12)  # 160, 180, 200, 220
    assert result.settings == {"above": 50.0}
    assert (tmp_path / "brightness" / "result.json").is_file()
    del sys.modules[name], sys.modules["my_benchmarks"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "scene_negatives").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="scene_negatives"):
        evaluate(Bright(), ["scene_negatives"], Grey(), folder=tmp_path)
