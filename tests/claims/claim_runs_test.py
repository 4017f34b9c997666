"""The runner: committed definitions alone, runs of one definition alone, and each claim end to end (slow)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from _claim import names
from _training import Job, finished

from diptych.core.errors import ConfigError

RUN = Path(__file__).parents[2] / "benchmarks" / "claims" / "run.py"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def left(work: Path, job: Job, **changes: Any) -> None:
    """The numbers of a finished job, as if it had been run."""
    place = job.folder(work)
    place.mkdir(parents=True)
    document = {"job": job.identity() | changes, "values": {"seconds": 1.0}}
    (place / "values.json").write_text(json.dumps(document), encoding="utf-8")


def test_what_was_trained_for_another_definition_is_refused(tmp_path: Path) -> None:
    job = Job("siglip_small_batch", "clip_8", 0)
    assert finished(job, tmp_path) is None
    left(tmp_path, job)
    assert finished(job, tmp_path) is not None
    for changes in ({"definition": "another"}, {"steps": 2}):
        other = tmp_path / next(iter(changes))
        left(other, job, **changes)
        with pytest.raises(ConfigError, match="another definition"):
            finished(job, other)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("siglip_small_batch", "--steps", 2), "give --draft"),
        (("siglip_small_batch", "--seeds", 1), "the definition says 5 seeds"),
        (("siglip_smal_batch",), "siglip_small_batch"),
    ],
)
def test_another_experiment_than_the_one_defined_is_refused(words: tuple[object, ...], sentence: str) -> None:
    done = run(*words)
    assert done.returncode != 0 and sentence in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_claim_runs_end_to_end(name: str, tmp_path: Path) -> None:
    out, work = tmp_path / "result.json", tmp_path / "work"
    words = (name, "--draft", "--seeds", 1, "--steps", 2, "--limit", 20, "--work", work, "--out", out)
    done = run(*words)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["verdict"] == "does not hold"  # one seed proves nothing
    assert result["definition"] == {"draft": True}
    written = {path: path.stat().st_mtime_ns for path in work.glob("*/values.json")}
    assert len(written) == len(result["arms"])
    assert run(*words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in work.glob("*/values.json")} == written, "repeated a finished run"
