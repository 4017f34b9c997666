"""`diptych eval` as a user meets it: class folders with and without splits, key lists, and what goes wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from diptych.cli import main
from diptych.commands.eval import print_result
from diptych.core.records.results import Counts, Result, read_result, read_samples

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """CLIP after one step: its features are those of a random net, enough to tell three colours apart."""
    run = tmp_path_factory.mktemp("runs") / "clip"
    arguments = ["--data", "scenes?count=64&size=32", "--budget.steps", "1", "--evaluate_every", "0", "--threads", "1"]
    assert main(["train", "clip_tiny", "--run", str(run), "--batch_size", "16", *arguments]) == 0
    return str(run)


def write_classes(folder: Path, count: int) -> Path:
    """`count` noisy pictures of each colour in a folder of its name."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(np.array(colour) + rng.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}.png")
    return folder


def evaluated(model: str, benchmarks: str, data: str, out: Path, *more: str) -> dict[str, Result]:
    arguments = ["--benchmarks", benchmarks, "--data", data, "--out", str(out), *more]
    assert main(["eval", model, *arguments]) == 0
    return {name: read_result(out / name) for name in benchmarks.split(",")}


def test_class_folders_are_parted_by_hash(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_classes(tmp_path / "data", 30)
    names = "linear_probe,knn,zero_shot_classification"
    found = evaluated(model, names, str(data), tmp_path / "out")
    probe = found["linear_probe"]
    assert probe.metrics["top1"].value > 0.9 and probe.metrics["top1"].chance == pytest.approx(1 / 3)
    assert probe.counts.evaluated + probe.metrics["train_pictures"].value == 90
    assert probe.metrics["train_pictures"] == found["knn"].metrics["train_pictures"]
    assert probe.settings["train"] == "" and probe.settings["test_share"] == 0.3
    assert found["zero_shot_classification"].counts.evaluated == 90
    assert "test_share 0.3" in capsys.readouterr().out


def test_the_training_split_is_used_where_there_is_one(model: str, tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", 12)
    write_classes(tmp_path / "data" / "val", 5)
    data = str(tmp_path / "data")
    (probe,) = evaluated(model, "linear_probe", data, tmp_path / "out", "--split", "val").values()
    assert (probe.counts.evaluated, probe.metrics["train_pictures"].value) == (15, 36)
    assert probe.settings["train"] == data
    assert all(record.key.startswith("val/") for record in read_samples(tmp_path / "out" / "linear_probe"))


def test_key_lists_name_both_parts(model: str, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 10)
    keys = {"train": "", "test": ""}
    for name in COLOURS:
        keys["train"] += "".join(f"{name}/{index:03d}.png\n" for index in range(8))
        keys["test"] += f"{name}/008.png\n{name}/009.png\n"
    for part, text in keys.items():
        (tmp_path / f"{part}.txt").write_text(text)
    named = {part: f"{data}?keys={tmp_path / part}.txt" for part in keys}
    (probe,) = evaluated(
        model, "knn", named["test"], tmp_path / "out", "--set", f"knn.train={named['train']}", "knn.k=3"
    ).values()
    assert (probe.counts.evaluated, probe.metrics["train_pictures"].value) == (6, 24)
    assert {record.key for record in read_samples(tmp_path / "out" / "knn")} == set(keys["test"].split())


def test_a_limit_takes_samples_of_every_class(model: str, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 30)
    (found,) = evaluated(model, "zero_shot_classification", str(data), tmp_path / "out", "--limit", "24").values()
    assert found.counts.evaluated == 24 and found.metrics["top1"].chance == pytest.approx(1 / 3)


def test_mistakes_are_one_sentence(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(write_classes(tmp_path / "data", 4))
    write_classes(tmp_path / "split" / "train", 2)
    cases = {
        ("linear_prob", data): "unknown benchmark 'linear_prob': did you mean 'linear_probe'?",
        ("linear_probe", str(tmp_path / "none")): f"no data at {tmp_path / 'none'}",
        ("linear_probe", str(tmp_path / "split")): "has no split 'test': its files are of train",
        ("linear_probe", f"{data}?keys=none.txt"): "no file of keys at none.txt",
        ("linear_probe", "scenes?min_objects=2"): "20 with no class",
        ("zero_shot_classification", str(tmp_path / "data" / "red")): "pictures of which nothing is said",
    }
    for (benchmark, reference), sentence in cases.items():
        assert main(["eval", model, "--benchmarks", benchmark, "--data", reference, "--limit", "20"]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1, said
    for benchmark, sentence in {
        "retrieval": "retrieval.rerank 20 needs a matching head: clip has score_pairs only by a rule",
        "masked_words": "clip has no verb 'fill_text': it offers answer, encode_image",
        "masked_patches": "clip has no verb 'fill_image'",
    }.items():
        more = ["--set", "retrieval.rerank=20"] if benchmark == "retrieval" else []
        assert main(["eval", model, "--benchmarks", benchmark, *more]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1, said
    assert main(["eval", model, "--benchmarks", "knn", "--data", data, "--set", "kn.k=3"]) == 2
    assert "--set kn.k=3: no benchmark 'kn' is run here: knn" in capsys.readouterr().err
    arguments = ["--benchmarks", "knn", "--data", data, "--set", f"knn.train={data}"]
    assert main(["eval", model, *arguments]) == 2
    assert "12 pictures" in capsys.readouterr().err


def test_of_several_one_that_cannot_be_run_is_told_and_the_rest_goes_on(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_classes(tmp_path / "data", 4), tmp_path / "out"
    names = ["winoground", "masked_words", "zero_shot_classification"]
    assert main(["eval", model, "--benchmarks", *names, "--data", str(data), "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert "zero_shot_classification" in shown.out and str(out) in shown.out
    assert read_result(out / "zero_shot_classification").counts.evaluated == 12
    missing, lacking = shown.err.splitlines()
    assert missing.startswith("diptych: winoground was not evaluated: ") and str(data) in missing
    assert lacking.startswith("diptych: masked_words was not evaluated: clip has no verb 'fill_text'")


def test_notes_are_printed_below_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts(evaluated=3, failed=0, skipped=0)
    result = SimpleNamespace(
        benchmark="retrieval", model="m", data="scenes", split="test", metrics={}, counts=counts, verbs={}, settings={},
        extras={"notes": ["text to image is [not] compared"]},
    )  # fmt: skip
    print_result(result)
    assert "  text to image is [not] compared" in capsys.readouterr().out
