"""One evaluation result: a line for every sample, then the metrics with their intervals and all they depend on.

evaluation/<benchmark>/samples.jsonl   one `SampleRecord` a line, written as it is computed (so it resumes)
evaluation/<benchmark>/result.json     one `Result`
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diptych.core.config import from_plain, to_plain
from diptych.core.errors import DataError
from diptych.core.sample import Json
from diptych.core.storage import write_text


@dataclass(frozen=True)
class Metric:
    """A number with its uncertainty.

    Attributes:
        value: a fraction for accuracies and recalls (0 to 1), never a percentage.
        low, high: the bootstrap interval's ends; None when there is nothing to resample.
        chance: what an uninformed model gets; None when that is not defined.
        n: how many independent samples it rests on.
        unit: "share" for a fraction; "number" for a rank or a size, which is printed as it is.
    """

    value: float
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    n: int = 0
    unit: Literal["share", "number"] = "share"


@dataclass(frozen=True)
class Counts:
    """Every sample is in exactly one of these."""

    evaluated: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class SampleRecord:
    """What happened to one sample.

    Attributes:
        key: the sample's key.
        status: "ok", or why it has no outcome ("truncated image").
        prompt: the text as the model got it, rendered.
        output: the raw output: a score list, a rank, a string.
        values: metric name -> this sample's contribution; what the bootstrap resamples.
    """

    key: str
    status: str = "ok"
    prompt: Json = None
    output: Json = None
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A benchmark's outcome for one model on one set of data.

    Attributes:
        data: the reference it was opened by, or the source's name where it was given as an object.
        split: of the data.
        verbs: verb -> how the model had it ("native", "cosine of encodings").
        settings: the benchmark's configuration as plain values (templates, pool size, seeds).
        extras: what a report draws: {"confusion": ...}, {"gallery": ...}.
        environment: commit, versions, hardware (records.environment).
    """

    benchmark: str
    model: str
    data: str
    metrics: dict[str, Metric]
    counts: Counts
    verbs: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    split: str = ""
    seed: int = 0
    seconds: float = 0.0
    data_fingerprint: str = ""
    model_hash: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def write_result(result: Result, folder: Path) -> None:
    """Writes `result.json` atomically."""
    write_text(folder / "result.json", json.dumps(to_plain(result), indent=2) + "\n")


def read_result(folder: Path) -> Result:
    """Reads `result.json`.

    Raises:
        DataError: not there, or truncated.
    """
    path = folder / "result.json"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no result at {path}") from error
    except ValueError as error:
        raise DataError(f"{path} is truncated or not JSON") from error
    return from_plain(Result, plain)


def read_samples(folder: Path) -> Iterator[SampleRecord]:
    """The complete lines of `samples.jsonl`; a last line that was cut off is left out."""
    path = folder / "samples.jsonl"
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            yield from_plain(SampleRecord, json.loads(line))


def sample_line(record: SampleRecord) -> str:
    """One line of `samples.jsonl`."""
    plain: Mapping[str, Any] = to_plain(record)
    return json.dumps(plain, ensure_ascii=False) + "\n"
