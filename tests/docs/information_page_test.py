"""The program on docs/information.md runs, and its known values are what it prints."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "information.md"


def test_the_program_runs_and_prints_the_known_values(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"<!-- tested:.*?-->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    exec(compile(block, str(PAGE), "exec"), {})
    lines = [[float(word) for word in re.findall(r"-?\d+\.\d+", line)] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == pytest.approx([1.721928, 0.721928, 0.278072], abs=1e-5)
    assert lines[1][0] == pytest.approx(lines[1][1], abs=1e-5)
    assert lines[2] == pytest.approx([1.5 + 0.5, 0.531004], abs=1e-5)
    assert len(lines[3]) == 3
