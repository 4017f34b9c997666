"""Runs of MaskVLM: their stages, what the second one starts from, and bad settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.capabilities.load import load
from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError
from diptych.core.records.run_folder import RunFolder
from diptych.models.masked.maskvlm import Config, MaskVlmOptions, MaskVlmPredictor
from diptych.recipes._alignment import Alignment
from diptych.recipes.flickr8k_maskvlm import flickr8k_maskvlm
from diptych.recipes.maskvlm_tiny import MaskVlmRun, maskvlm_tiny
from diptych.training import checkpoint
from diptych.training.fit import fit
from diptych.training.run import Budget


def tiny(**changed: Any) -> MaskVlmRun:
    run = maskvlm_tiny()
    return replace(
        run,
        **{
            "data": "scenes?size=32&min_objects=2&count=64",
            "image": replace(run.image, size=32),
            "model": Config.tiny(image_size=32, width=32, depth=1),
            "options": MaskVlmOptions(image_block=8),
            "alignment": Alignment(samples=32, batch_size=16),
            "batch_size": 8,
            "budget": Budget(steps=3),
            "evaluate_every": 3,
            "threads": 1,
            **changed,
        },
    )


def weights(run: RunFolder, stage: str) -> dict[str, torch.Tensor]:
    folder = checkpoint.latest(run, stage)
    assert folder is not None
    return {name: rows for name, rows in checkpoint.load(folder)[1].items() if name.startswith("task/")}


def test_the_stages_and_their_settings() -> None:
    assert [stage.name for stage in maskvlm_tiny().stages()] == ["tokenizer", "align", "train"]
    assert [stage.name for stage in tiny(alignment=Alignment()).stages()] == ["tokenizer", "train"]
    settings = Alignment(320, 32, 0.5).applied_to(tiny())
    assert (settings.budget, settings.batch_size, settings.optimizer.lr) == (Budget(samples=320), 32, 5e-4)
    assert Alignment(320).applied_to(tiny()).batch_size == 8
    for run in (maskvlm_tiny(), flickr8k_maskvlm()):
        assert from_plain(type(run), to_plain(run)) == run


def test_alignment_trains_the_encoders_alone_and_training_goes_on_from_them(tmp_path: Path) -> None:
    whole = fit(tiny(), tmp_path / "run")
    aligned = weights(whole, "align")
    trained = weights(whole, "train")
    still = fit(replace(tiny(), optimizer=replace(tiny().optimizer, lr=1e-12)), tmp_path / "still")
    fresh = weights(still, "align")  # what alignment starts from: a rate of next to nothing moved nothing
    moved = {
        name.split("/")[1].split(".")[1]
        for name in aligned
        if not torch.allclose(aligned[name], fresh[name], atol=1e-7)
    }
    assert moved == {"vision", "text", "image_head", "text_head", "log_scale"}
    after = {name: float((trained[name] - aligned[name]).abs().max()) for name in aligned}
    assert max(after.values()) < 0.1 and min(after.values()) > 0  # three steps away, and every weight trained
    model = load(whole.best_model(), torch.device("cpu"))
    assert isinstance(model, MaskVlmPredictor)


def test_bad_settings_are_refused_before_anything_is_trained() -> None:
    for change, sentence in (
        ({"batch_size": 1}, "batch_size to 2 or more"),
        ({"options": MaskVlmOptions(image_block=12)}, "multiple of the patch size 8"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            tiny(**change)
    with pytest.raises(ConfigError, match="a rate above 0"):
        Alignment(100, lr_scale=0)
