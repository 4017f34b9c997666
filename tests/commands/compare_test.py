"""Two evaluated runs side by side, on the same samples or not at all."""

import json
import re
from math import comb
from pathlib import Path
from typing import Any

import pytest

from diptych.cli import main
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Counts, Metric, Result, SampleRecord, sample_line, write_result
from diptych.evaluation.compare import compare

N = 60


def write(folder: Path, values: list[float], benchmark: str = "knn", **changes: Any) -> None:
    """An evaluation whose pictures have these values; of several a picture, "k3#1" is picture 3's second."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"top1": Metric(sum(values) / len(values)), "tie_rate": Metric(0.0)}
    plain: dict[str, Any] = {"data_fingerprint": "f", "settings": {"k": 20}, "seed": 0} | changes
    write_result(Result(benchmark, "m", "scenes", metrics, Counts(N), {}, **plain), folder)
    each = len(values) // N
    keys = [f"k{i // each}#{i % each}" if each > 1 else f"k{i}" for i in range(len(values))]
    lines = [
        sample_line(SampleRecord(key, values={"top1": value, "tie_rate": 0.0}))
        for key, value in zip(keys, values, strict=True)
    ]
    (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")


def run(place: Path, values: list[float], benchmark: str = "knn", **changes: Any) -> Path:
    (place / "evaluation").mkdir(parents=True, exist_ok=True)
    (place / "config.yaml").write_text("name: x\n")
    write(place / "evaluation" / benchmark, values, benchmark, **changes)
    return place


BASE = [1.0] * 30 + [0.0] * 30
BETTER = [1.0] * 28 + [0.0] * 2 + [1.0] * 14 + [0.0] * 16  # 14 gained, 2 lost


def test_the_numbers_against_the_closed_form(tmp_path: Path) -> None:
    (one,) = compare([run(tmp_path / "a", BASE), run(tmp_path / "b", BETTER)])
    assert (one.benchmark, one.metric) == ("knn", "top1")
    assert (one.first, one.second) == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert (one.first_value, one.second_value) == (0.5, 0.7)
    assert one.difference.value == pytest.approx(12 / 60)
    assert one.difference.low is not None and 0.05 < one.difference.low < 0.12
    assert one.difference.high is not None and 0.28 < one.difference.high < 0.35
    assert one.p == pytest.approx(2 * sum(comb(16, i) for i in range(3)) / 2**16)
    (back,) = compare([tmp_path / "b", tmp_path / "a"])
    assert (back.difference.value, back.p) == (pytest.approx(-12 / 60), pytest.approx(one.p))


def test_captions_of_one_picture_are_one_unit(tmp_path: Path) -> None:
    five = [value for value in BASE for _ in range(5)], [value for value in BETTER for _ in range(5)]
    (one,) = compare([run(tmp_path / "a", five[0]), run(tmp_path / "b", five[1])])
    (alone,) = compare([run(tmp_path / "c", BASE), run(tmp_path / "d", BETTER)])
    assert (one.p, one.difference.n) == (alone.p, 60)
    assert one.difference.low == pytest.approx(alone.difference.low)


def test_several_runs_against_the_first_as_tables_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(run(tmp_path / name, values)) for name, values in (("a", BASE), ("b", BETTER), ("c", BASE))]
    assert main(["compare", *folders, "--benchmarks", "knn", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["first"], row["second"]) for row in rows] == [(folders[0], folders[1]), (folders[0], folders[2])]
    assert [round(row["difference"]["value"], 6) for row in rows] == [0.2, 0.0]
    assert rows[1]["p"] == 1.0
    assert main(["compare", *folders]) == 0
    printed = capsys.readouterr().out
    assert "+0.200" in printed and "0.0042" in printed and "0.700" in printed


def test_an_expectation_is_shown_where_ties_make_it_another_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(tmp_path / "a", BASE), run(tmp_path / "b", BETTER)]
    for folder in runs:
        place = folder / "evaluation" / "knn"
        for old in (place / "result.json", place / "samples.jsonl"):
            text = old.read_text()
            text = text.replace('"top1": {', '"top1_expected": {"value": 0.5}, "top1": {')
            old.write_text(re.sub(r'"top1": (\d\.\d)', r'"top1": \1, "top1_expected": \1', text))
    assert main(["compare", *map(str, runs)]) == 0
    assert "top1_expected" not in capsys.readouterr().out
    lines = (runs[1] / "evaluation" / "knn" / "samples.jsonl").read_text()
    (runs[1] / "evaluation" / "knn" / "samples.jsonl").write_text(
        lines.replace('"top1_expected": 0.0', '"top1_expected": 0.5', 1)
    )
    assert main(["compare", *map(str, runs)]) == 0
    assert "top1_expected" in capsys.readouterr().out


def test_other_settings_are_compared_where_that_is_asked_for(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", BASE), run(tmp_path / "b", BETTER, settings={"k": 5})]
    (one,) = compare(runs, settings_alike=False)
    assert one.difference.value == pytest.approx(0.2)
    assert main(["compare", *map(str, runs), "--any_settings"]) == 0
    assert main(["compare", *map(str, runs)]) == 2
    with pytest.raises(DataError, match="different data"):
        compare([runs[0], run(tmp_path / "c", BETTER, data_fingerprint="other")], settings_alike=False)


def test_folders_that_eval_wrote_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "out" / "knn", BETTER)
    (one,) = compare([run(tmp_path / "a", BASE), tmp_path / "out"])
    assert (one.second, one.difference.value) == (str(tmp_path / "out"), pytest.approx(0.2))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data_fingerprint": "other"}, "evaluated with different data"),
        ({"settings": {"k": 5}}, r"different settings \({'k': 20} and {'k': 5}\)"),
        ({"seed": 7}, r"different seed \(0 and 7\)"),
    ],
)
def test_different_questions_are_not_compared(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    run(tmp_path / "a", BASE)
    run(tmp_path / "b", BETTER, **changes)
    with pytest.raises(DataError, match=sentence):
        compare([tmp_path / "a", tmp_path / "b"])


def test_different_samples_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "a", BASE)
    run(tmp_path / "b", BETTER)
    lines = (tmp_path / "b" / "evaluation" / "knn" / "samples.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "evaluation" / "knn" / "samples.jsonl").write_text("".join(lines[:-3]))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    said = capsys.readouterr().err
    assert "3 samples have a top1 in one of them only ('k57'); evaluate both on the same data" in said
    assert said.count("\n") == 1


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    run(tmp_path / "a", BASE)
    with pytest.raises(ConfigError, match="two runs or more"):
        compare([tmp_path / "a"])
    with pytest.raises(DataError, match=r"nowhere holds no evaluation: `diptych eval "):
        compare([tmp_path / "a", tmp_path / "nowhere"])
    run(tmp_path / "b", BASE, benchmark="retrieval")
    with pytest.raises(DataError, match=r"no benchmark in common .*a: knn; .*b: retrieval"):
        compare([tmp_path / "a", tmp_path / "b"])
    run(tmp_path / "c", BASE)
    with pytest.raises(ConfigError, match="unknown benchmark of these runs 'kn': did you mean 'knn'"):
        compare([tmp_path / "a", tmp_path / "c"], ["kn"])


@pytest.mark.parametrize("benchmark", ["retrieval", "scene_negatives", "scene_pairs", "zero_shot_classification"])
def test_what_evaluation_writes_can_be_compared(benchmark: str, tmp_path: Path) -> None:
    from diptych.core import discovery
    from diptych.core.seeding import seed_everything
    from diptych.data.scenes.source import Scenes
    from diptych.evaluation.runner import evaluate

    module, source = discovery.models()["clip"].load(), discovery.benchmarks()[benchmark].load().tiny_data(tmp_path)
    results = []
    for seed in (0, 1):
        seed_everything("compare", seed)
        (task, *_) = module.tiny_tasks([Scenes("train")[0]]).values()
        predictor = task.predictor()
        predictor.module.eval()
        results += evaluate(predictor, [benchmark], source, folder=tmp_path / f"run{seed}")
    found = compare([tmp_path / "run0", tmp_path / "run1"])
    assert found
    for one in found:
        assert one.first_value == pytest.approx(results[0].metrics[one.metric].value), one.metric
        assert one.second_value == pytest.approx(results[1].metrics[one.metric].value), one.metric
        assert one.difference.n == results[0].metrics[one.metric].n
