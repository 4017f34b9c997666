"""Adapters on public weights: a CLIP with a start token, a SigLIP without one whose padding is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_public import tiny_clip, tiny_siglip

from diptych.adapters.context import ContextConfig
from diptych.capabilities.folder import read_model, write_model
from diptych.capabilities.load import load
from diptych.models.contrastive._on_base import adaptable, class_processor
from diptych.models.contrastive.adapted import AdaptedTask, Config, Method

NAMES = ("dog", "small cat", "house")


@pytest.fixture(params=[tiny_clip, tiny_siglip], ids=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "public").mkdir()
    request.param(tmp_path / "public")
    return tmp_path / "public"


def task_of(folder: Path, method: Method, words: str = "") -> AdaptedTask:
    base = adaptable(load(folder))
    base.module.double()
    config = Config(method, context=ContextConfig(3, words))
    return AdaptedTask(config, class_processor(base, NAMES), base).double()


def test_words_to_start_from_are_the_hand_written_prompt(folder: Path) -> None:
    expected = load(folder).encode_text([f"a photo of the {name}" for name in NAMES])
    found = task_of(folder, "coop", "a photo of the").predictor().encode_text(NAMES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float((task_of(folder, "coop").predictor().encode_text(NAMES) - expected).abs().max()) > 1e-2


@pytest.mark.parametrize("method", ["coop", "vpt_shallow", "vpt_deep", "clip_adapter", "lora"])
def test_an_adapted_public_model_is_saved_with_its_base(method: Method, folder: Path, tmp_path: Path) -> None:
    predictor = task_of(folder, method).float().eval().predictor()
    (tmp_path / "saved").mkdir()
    write_model(predictor, tmp_path / "saved")
    again, pixels = read_model(tmp_path / "saved"), torch.randn(2, 3, 16, 16)
    assert torch.equal(again.encode_image(pixels), predictor.encode_image(pixels))
    assert torch.equal(again.encode_text(NAMES), predictor.encode_text(NAMES))
