"""How a command refuses a mistake: one sentence, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.cli import main


def sentence_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says last on the error stream, having ended with 2 and left nothing in the working directory."""
    assert main(arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("diptych: ")
    assert list(Path.cwd().iterdir()) == []
    return last
