"""`diptych plan`: every number is explained, on the screen and as JSON; what cannot be planned is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refusals import sentence_of

from diptych.cli import main
from diptych.commands._plan_tables import said
from diptych.core import discovery
from diptych.training.configured import recipe

SMALL = ["--threads", "1", "--loader_threads", "1", "--data", "scenes?count=96&objects=1", "--batch_size", "64"]


def test_a_plan_for_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--gpus", "8xA100", "--samples", "64M", "--price", "2.0", "--precision", "auto", "--out", "plan.json"]
    assert main(["plan", "clip_tiny", *SMALL, *more]) == 0
    printed = capsys.readouterr().out
    for word in ("on 8 A100 in bf16", "trained", "optimizer", "activations", "DDP", "FSDP2", "money", "checkpoints"):
        assert word in printed, printed
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    plan = json.loads((tmp_path / "plan.json").read_text())
    (stage,) = plan["stages"]
    assert (plan["device"], plan["devices"], stage["precision"], stage["does_not_fit"]) == ("A100", 8, "bf16", "")
    numbers = {(entry["about"], entry["name"], entry["under"]): entry for entry in stage["entries"]}
    assert numbers["compute", "samples", ""]["value"] == 64_000_000
    assert numbers["compute", "all steps", ""]["why"] == "1,000,000 steps"
    money, hours = (numbers["compute", name, ""] for name in ("money", "the stage"))
    assert money["value"] == pytest.approx(16 * hours["value"]) and hours["low"] < hours["value"] < hours["high"]
    one, all_eight = (numbers["memory of a device", "optimizer", way]["value"] for way in ("DDP", "FSDP2"))
    assert one == pytest.approx(8 * all_eight)


def test_earlier_stages_have_rows_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "clip_tiny", *SMALL, "--tuning.steps", "20", "--gpus", "T4", "--out", "plan.json"]) == 0
    printed = capsys.readouterr().out
    assert "stage 'train' on 1 T4" in printed and "stage 'tune' on 1 T4" in printed and "all stages" in printed
    plan = json.loads((tmp_path / "plan.json").read_text())
    flops = [next(one["value"] for one in stage["entries"] if one["name"] == "all steps") for stage in plan["stages"]]
    assert plan["total"][0]["value"] == sum(flops) and flops[0] > 10 * flops[1]  # 400 steps and 20


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in discovery.recipes() if name.endswith("_tiny")])
def test_every_recipe_is_planned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is followed, through every stage, without a formula for it."""
    monkeypatch.chdir(tmp_path)
    data = recipe(name).data  # some of its own: an episode takes five pictures of a colour and a shape
    data += f"{'&' if '?' in data else '?'}count=600"
    fields = [*SMALL[:4], "--data", data, "--batch_size", "16", "--gpus", "2xL40S", "--out", "plan.json"]
    assert main(["plan", name, *fields]) == 0
    for stage in json.loads(Path("plan.json").read_text())["stages"]:
        numbers = {(one["name"], one["under"]): one["value"] for one in stage["entries"]}
        trained, all_there = numbers["trained", ""], numbers["all", ""]
        assert 0 < trained <= all_there and numbers["weights", "one process"] >= 4 * all_there
        assert numbers["gradients", "DDP"] <= 4 * trained and numbers["optimizer", "DDP"] <= 9 * trained
        assert numbers["activations", "DDP"] > 0 and numbers["all steps", ""] > 0


@pytest.mark.slow
def test_a_probe_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "clip_tiny", *SMALL, "--probe"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "probed at batches of 4 and 16" in printed and "probed at a batch of 16" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["clip_tyni"], "did you mean 'clip_tiny'?"),
        (["clip_tiny", "--gpus", "8xB100"], "unknown device 'B100': known are A100, A100-40GB, H100"),
        (["clip_tiny", "--samples", "a lot"], "'a lot' is no count: write 8000, 8k, 1.5M or 2B"),
        (["clip_tiny", "--samples", "0"], "--samples 0: a run sees at least one"),
        (["clip_tiny", "--price", "-1"], "--price -1: a device costs 0 or more an hour"),
        (["clip_tiny", "--batch_size", "100", "--gpus", "8xA100"], "not divisible by 8 devices: take 96 or 104"),
        (["clip_tiny", "--gpus", "T4", "--precision", "bf16"], "T4 does not compute in bf16"),
        (["clip_tiny", "--gpus", "8xA100", "--probe"], "--probe measures the machine it runs on, a cpu"),
        (["clip_tiny", "--modle.width", "3"], "did you mean 'model.width'?"),
        (["flickr8k_lit", "--data", "scenes"], "name a transformers folder with --image_tower PATH"),
        (["clip_tiny", "--data", "nowhere"], "no data at nowhere"),
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
    assert sentence in sentence_of(["plan", *arguments], capsys)


def test_a_batch_beyond_the_memory_fails_after_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "vit_tiny", *SMALL[:-1], "32768", "--gpus", "T4"]) == 2
    printed = capsys.readouterr()
    assert "activations" in printed.out
    assert printed.err.splitlines()[-1].startswith("diptych: stage 'train' does not fit: ")
    assert "--micro_batch " in printed.err


def test_numbers_as_people_say_them() -> None:
    assert [said(n, "B") for n in (0, 999, 1.5e6, 3.25e12)] == ["0 B", "999 B", "1.5 MB", "3.25 TB"]
    assert [said(n, "FLOP") for n in (5.67e20, 44.3e9)] == ["567 EFLOP", "44.3 GFLOP"]
    assert [said(n, "h") for n in (0.001, 3.456, 50_800)] == ["3.6 s", "3.5 h", "50,800 h"]
    assert [said(n, "money") for n in (0.5, 101_600)] == ["0.50", "101,600"]
