"""Runs from a pretrained backbone, on scenes and a tiny one: they train, are saved with it, and report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
import transformers
from torch import nn

from diptych.capabilities.load import load
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import read_result
from diptych.data.open import open_source
from diptych.models.masked import maskvlm
from diptych.recipes._alignment import Alignment
from diptych.recipes.flickr8k_coca import PhotoCocaRun, flickr8k_coca
from diptych.recipes.flickr8k_flava import PhotoFlavaRun, flickr8k_flava
from diptych.recipes.flickr8k_maskvlm import PhotoRun, flickr8k_maskvlm
from diptych.training import checkpoint
from diptych.training.fit import fit
from diptych.training.run import Budget

RunT = TypeVar("RunT", PhotoRun, PhotoFlavaRun, PhotoCocaRun)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random MobileNetV2 as `transformers` saves it."""
    folder = tmp_path_factory.mktemp("mobilenet")
    torch.manual_seed(0)
    config = transformers.MobileNetV2Config(depth_multiplier=0.1, image_size=64)
    model = transformers.MobileNetV2Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))  # as it begins, it says the same of every picture
    model.save_pretrained(folder)
    plain = {"size": 64, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.5, 0.5, 0.5], "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(plain))
    return folder


SMALL = {"width": 32, "heads": 2, "hidden": 64}


def short(run: RunT, backbone: Path, **own: Any) -> RunT:
    """The run on a few scenes, in two steps, with a model of its own size."""
    return replace(
        run,
        data="scenes?size=64&count=48&min_objects=2",
        image=replace(run.image, size=64),
        context=64,
        vocab_size=300,
        batch_size=8,
        budget=Budget(steps=2),
        evaluate_every=0,
        threads=1,
        image_tower=str(backbone),
        compile_tower=False,
        **own,
    )


def assert_holds(patches: nn.Module, backbone: Path) -> None:
    """The backbone below the patches has the weights of its folder, but for what batch norm counts."""
    known = transformers.MobileNetV2Model.from_pretrained(backbone).state_dict()
    held = patches.backbone.backbone.state_dict()
    assert all(torch.equal(held[name], known[name]) for name in held if not name.endswith("num_batches_tracked"))


def tiny(backbone: Path) -> PhotoRun:
    run = flickr8k_maskvlm()
    model = replace(
        run.model,
        vision=replace(run.model.vision, image_size=64, depth=1, **SMALL),
        text=replace(run.model.text, context=64, depth=1, **SMALL),
        width=16,
        cross_depth=1,
    )
    return short(run, backbone, model=model, alignment=Alignment(samples=16))


def test_a_run_trains_all_but_the_backbone_and_is_saved_with_it(backbone: Path, tmp_path: Path) -> None:
    folder = fit(tiny(backbone), tmp_path / "run")
    newest = checkpoint.latest(folder, "train")
    assert newest is not None
    model = load(folder.best_model())
    assert isinstance(model, maskvlm.MaskVlmPredictor)
    assert_holds(model.module.vision.patches, backbone)
    assert model.processor.config.image.mean == (0.4, 0.5, 0.6)
    result = read_result(folder.evaluation / "retrieval")
    assert result.split == "val" and result.counts.evaluated == 48
    images = [open_source(tiny(backbone).data, "val")[0].image]
    assert torch.equal(model.encode_image(images), load(folder.best_model()).encode_image(images))


def tiny_flava(backbone: Path) -> PhotoFlavaRun:
    run = flickr8k_flava()
    model = replace(
        run.model,
        vision=replace(run.model.vision, image_size=64, depth=1, **SMALL),
        text=replace(run.model.text, context=64, depth=1, **SMALL),
        fusion=replace(run.model.fusion, depth=1, **SMALL),
        width=16,
        codes=replace(run.model.codes, image_size=16),
    )
    return short(
        run,
        backbone,
        model=model,
        masks=replace(run.masks, alone=(0.3, 0.3)),
        codebook=replace(run.codebook, steps=2, batch_size=8),
        alignment=Alignment(samples=16),
    )


def test_flava_on_a_backbone_is_saved_with_it_and_hides_the_pixels_from_it(backbone: Path, tmp_path: Path) -> None:
    folder = fit(tiny_flava(backbone), tmp_path / "run")
    model = load(folder.best_model())
    assert_holds(model.module.image.patches, backbone)
    hidden_BP = torch.tensor([[True, False, False, False]])
    pixels = torch.randn(1, 3, 64, 64)
    changed = pixels.clone()
    changed[:, :, :32, :32] = 9.0
    encoder = model.module.image
    with torch.no_grad():
        seen, other = (encoder.states(x, hidden_BP, 1).states_NTD for x in (pixels, changed))
        shown, moved = (encoder.states(x, ~hidden_BP & False, 1).states_NTD for x in (pixels, changed))
    assert torch.equal(seen, other)
    assert not torch.allclose(shown, moved)
    assert read_result(folder.evaluation / "retrieval").split == "val"


def tiny_coca(backbone: Path) -> PhotoCocaRun:
    run = flickr8k_coca()
    model = replace(
        run.model,
        vision=replace(run.model.vision, image_size=64, depth=1, **SMALL),
        text=replace(run.model.text, context=64, lower=1, upper=1, **SMALL),
        width=16,
        queries=4,
        pool_heads=2,
    )
    return short(run, backbone, model=model)


def test_coca_on_a_backbone_reports_captions_beside_those_of_neighbours(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(tiny_coca(backbone), tmp_path / "run")
    assert_holds(load(folder.best_model()).module.vision.patches, backbone)
    captioned, retrieved = (read_result(folder.evaluation / name) for name in ("captioning", "retrieval"))
    assert captioned.split == retrieved.split == "val" and captioned.counts.evaluated == 48
    metrics = captioned.metrics
    assert metrics["cider_consensus_of_30"].value > metrics["cider"].value  # of two steps
    said = capsys.readouterr().out
    for name in ("cider", "cider_nearest_picture", "cider_consensus_of_30", "cider_constant_caption"):
        assert f"val {name} {metrics[name].value:.3f}" in said


def test_what_cannot_be_is_said_before_training(backbone: Path, tmp_path: Path) -> None:
    for change, error, sentence in (
        ({"image_tower": ""}, ConfigError, "--image_tower PATH"),
        ({"image_tower": str(tmp_path / "nowhere")}, ConfigError, "no folder at"),
        ({"options": maskvlm.MaskVlmOptions(image_block=64)}, ConfigError, "hides none|leaves none"),
    ):
        with pytest.raises(error, match=sentence):
            fit(replace(tiny(backbone), **change), tmp_path / sentence[:4])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        fit(replace(tiny(backbone), image_tower=str(tmp_path / "empty")), tmp_path / "run")
