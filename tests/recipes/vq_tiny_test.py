"""The recipe of the tiny image tokenizer, cut short: it trains, is measured and is loaded; sizes that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.capabilities.load import load
from diptych.cli import main

SHORT = ["--threads", "1", "--evaluate_every", "0", "--log_every", "1"]


def test_a_short_run_improves_and_is_loaded(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    assert main(["train", "vq_tiny", "--run", run, "--budget.samples", "240", *SHORT]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))
    losses = [line["parts"]["reconstruction"] for line in lines]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert lines[-1]["summary"]["perplexity"] > 16
    assert lines[-1]["evaluation"]["codes_used"] > 0.1
    model = load(run)
    assert model.verbs == {"reconstruct", "tokenize_image"}
    assert model.vocabulary == 256  # type: ignore[attr-defined]


def test_a_size_that_codes_cannot_cover_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "vq_tiny", "--run", str(tmp_path / "run"), "--image.size", "62"]) == 2
    assert "62 x 62 pixels cannot be cut into cells of 4 x 4" in " ".join(capsys.readouterr().err.split())
