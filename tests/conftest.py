"""What every test shares: one thread, and the real data where it is present."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, or a skip with the reason."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DIPTYCH_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set DIPTYCH_SHARED")
    return folder
