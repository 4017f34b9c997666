"""notebooks/tour.ipynb: committed without outputs, and runs from top to bottom."""

from __future__ import annotations

import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


def _cells() -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def test_the_notebook_is_committed_without_outputs() -> None:
    assert _cells()
    assert all(not cell.outputs and cell.execution_count is None for cell in _cells())


def test_every_cell_compiles() -> None:
    for cell in _cells():
        compile(cell.source.replace("%matplotlib inline", ""), cell.id, "exec")


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom() -> None:
    """Every cell, three of them with a figure; a model that learned finds more than chance."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    started = time.monotonic()
    NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
    print(f"{time.monotonic() - started:.0f} seconds")
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    (line,) = [line for line in printed.splitlines() if line.startswith("retrieval/text_to_image_r10")]
    value, chance = float(line.split()[1]), float(line.split()[-1])
    assert value > 2 * chance
