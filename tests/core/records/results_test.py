from pathlib import Path

import pytest

from diptych.core.errors import DataError
from diptych.core.records.results import (
    Counts,
    Metric,
    Result,
    SampleRecord,
    read_result,
    read_samples,
    sample_line,
    write_result,
)


def test_a_result_reads_back(tmp_path: Path) -> None:
    result = Result(
        benchmark="retrieval",
        model="clip",
        data="scenes",
        metrics={"r@1": Metric(0.5, 0.4, 0.6, chance=0.01, n=100), "plain": Metric(1.0)},
        counts=Counts(evaluated=99, failed=1),
        verbs={"score": "cosine of encodings"},
        settings={"k": [1, 5]},
    )
    write_result(result, tmp_path)
    assert read_result(tmp_path) == result


def test_samples_stop_at_a_line_that_was_cut_off(tmp_path: Path) -> None:
    records = [SampleRecord("a", values={"hit": 1.0}), SampleRecord("b", status="truncated image")]
    text = "".join(map(sample_line, records))
    (tmp_path / "samples.jsonl").write_text(text + '{"key": "c", "sta')
    assert list(read_samples(tmp_path)) == records


def test_missing_and_truncated_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result at"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text('{"bench')
    with pytest.raises(DataError, match="truncated"):
        read_result(tmp_path)
