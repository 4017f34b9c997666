"""FLAVA's recipes: stages, what goes from one to the next, data that cannot give a term, added data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from diptych.capabilities.load import load
from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError
from diptych.data.batches.mixed_pairs import Kind, Masks
from diptych.data.batches.row_kinds import kinds_in
from diptych.data.derived.mixture import Mixture
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.image_tokenizer import vq
from diptych.models.masked import flava
from diptych.models.masked._flava_codes import GivenCodes, VqCodes
from diptych.models.masked._flava_encoders import FusionConfig
from diptych.models.masked._flava_terms import Weights
from diptych.recipes._alignment import Alignment
from diptych.recipes._flava import CodebookStage, FlavaRun
from diptych.recipes.flava_tiny import flava_tiny
from diptych.recipes.flickr8k_flava import flickr8k_flava
from diptych.training import checkpoint
from diptych.training.fit import fit
from diptych.training.run import Budget

SCENES = "scenes?size=32&min_objects=2&count=64"


def tiny(**changed: Any) -> FlavaRun:
    run = flava_tiny()
    model = flava.Config(
        VisionConfig(32, 8, 24, 1, 2, 48),
        TextConfig(512, 64, 24, 1, 2, 48, causal=False),
        FusionConfig(24, 1, 2, 48),
        16,
        VqCodes(vq.Config.tiny(16), 32),
    )
    return replace(
        run,
        **{
            "data": SCENES,
            "image": replace(run.image, size=32),
            "model": model,
            "batch_size": 16,
            "codebook": CodebookStage(steps=3, batch_size=8, warmup=1),
            "budget": Budget(steps=4),
            "alignment": Alignment(),
            "evaluate_every": 0,
            **changed,
        },
    )


def task_of(folder: Any, stage: str) -> dict[str, torch.Tensor]:
    found = checkpoint.latest(folder, stage)
    assert found is not None
    tensors = checkpoint.load(found)[1]
    return {name: rows for name, rows in tensors.items() if name.startswith("task/")}


def names_of(run: FlavaRun) -> list[str]:
    return [stage.name for stage in run.stages()]


def test_stages_are_those_that_the_terms_need() -> None:
    assert names_of(tiny()) == ["tokenizer", "codes", "train"]
    assert names_of(tiny(alignment=Alignment(samples=32, batch_size=16))) == ["tokenizer", "codes", "align", "train"]
    assert names_of(tiny(weights=Weights(mim=0, mmm_image=0))) == ["tokenizer", "train"]
    assert from_plain(FlavaRun, to_plain(tiny())) == tiny()
    assert flickr8k_flava().data == ""


def test_the_codebook_and_the_first_stage_are_handed_on(tmp_path: Path) -> None:
    """And the last stage leaves the codebook as it is."""
    folder = fit(tiny(alignment=Alignment(samples=32, batch_size=16)), tmp_path / "run")
    codes, first, last = (task_of(folder, stage) for stage in ("codes", "align", "train"))
    for name, rows in codes.items():
        if "quantizer" in name and "codebook" not in name:
            continue  # counts of the codebook's own training
        inside = name.replace("task/model.", "task/model.codebook.")
        assert torch.equal(last[inside], rows) and torch.equal(first[inside], rows), name
    assert not torch.equal(first["task/model.image_head.weight"], last["task/model.image_head.weight"])
    model = load(tmp_path / "run")
    assert model.verbs >= set(flava.VERBS)
    picture = np.full((32, 32, 3), 90, np.uint8)
    (filled,) = model.fill_image([picture], ["a red circle"], torch.ones(1, 1, 1, dtype=torch.bool))
    assert filled.pixels_HWC.shape == (32, 32, 3)
    assert len(model.fill_text([picture], ["a [MASK] circle"])[0]) == 1


def test_data_without_what_a_term_needs_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"term mim needs pictures alone"):
        fit(tiny(masks=Masks()), tmp_path / "pairs")
    pictures = tmp_path / "pictures" / "train"
    pictures.mkdir(parents=True)
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Picture.fromarray(pixels).save(pictures / f"{index}.png")
    (pictures / "captions.jsonl").write_text(
        "".join(f'{{"image": "{index}.png"}}\n' for index in range(8)), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"term contrastive needs pairs, and these data give picture rows only"):
        fit(tiny(data=str(pictures)), tmp_path / "alone")
    assert not list((tmp_path / "alone").glob("checkpoints/*"))


def test_added_pictures_and_texts_are_mixed_in_their_shares() -> None:
    run = tiny(pictures=SCENES, texts=SCENES, masks=Masks(), shares=(0.5, 0.25, 0.25))
    source = run.training_data()
    assert isinstance(source, Mixture)
    sides = [(bool(source[i].visuals), bool(source[i].texts)) for i in range(100)]
    assert [sides.count(one) for one in ((True, True), (True, False), (False, True))] == [50, 25, 25]
    assert kinds_in(source, run.masks) == set(Kind)
    assert names_of(run) == ["tokenizer", "codes", "train"]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="trains its own codebook"):
        tiny(model=replace(tiny().model, codes=GivenCodes(16)))
    with pytest.raises(ConfigError, match="alignment of -1"):
        Alignment(samples=-1)
