"""`--compile`: the same training through torch.compile."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from training_toys import weights_in

from diptych.core.records.run_folder import RunFolder
from diptych.data.batches.image_text import ImagePreprocessing
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive import clip
from diptych.recipes.clip_tiny import ClipRun, clip_tiny
from diptych.training.fit import fit
from diptych.training.run import Budget

VISION = VisionConfig(32, 16, width=32, depth=1, heads=2, hidden=64, pre_norm=True, patch_bias=False, eps=1e-5)
TEXT = TextConfig(512, context=64, width=32, depth=1, heads=2, hidden=64)


def tiny() -> ClipRun:
    """Four steps of very little."""
    return replace(
        clip_tiny(),
        model=clip.Config(VISION, TEXT, width=16),
        image=ImagePreprocessing(32),
        data="scenes?objects=1&size=32&count=64",
        batch_size=16,
        budget=Budget(steps=4),
        evaluate_every=0,
        save_every=2,
        keep_last=2,
        log_every=1,
        threads=1,
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_takes_the_same_steps_and_goes_on_with_eager_ones(tmp_path: Path) -> None:
    eager = fit(tiny(), tmp_path / "eager")
    counters.clear()
    compiled = fit(replace(tiny(), compile=True), tmp_path / "compiled")
    assert counters["stats"]["unique_graphs"] > 0
    losses = [[line["loss"] for line in run.lines()] for run in (eager, compiled)]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    require_close(eager, compiled)
    shutil.rmtree(compiled.artifact("train"))
    shutil.rmtree(compiled.checkpoints / "train-00000004")
    fit(tiny(), compiled.path, resume=True)
    require_close(eager, compiled)


def require_close(expected: RunFolder, found: RunFolder) -> None:
    """The last checkpoints have the same names, and the same numbers to rounding."""
    states = [weights_in(run.checkpoints / "train-00000004") for run in (expected, found)]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-2, atol=1e-4)
