"""Our ViT classifier against `transformers`' ViTForImageClassification: every parameter random, float64."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_public import IMAGE_SIZE, VISION, assert_equal, compare_gradients, insensitive, photograph, pixels, tiny_vit
from torch import Tensor

from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError
from diptych.core.losses import total
from diptych.data.batches.classes import ClassBatch
from diptych.models import _weight_tables as tables
from diptych.models.supervised.vit_classifier import VitClassifierPredictor, VitClassifierTask, weights_from


@pytest.mark.parity("vit_classifier", "transformers ViTForImageClassification", "features, logits")
@pytest.mark.parametrize("batch", [1, 3])
def test_features_and_logits_are_those_of_transformers(tmp_path: Path, batch: int) -> None:
    theirs = tiny_vit(tmp_path)
    module = weights_from(tmp_path).module.double()
    with torch.no_grad():
        expected = theirs.vit(pixels(batch)).last_hidden_state
        assert_equal(module.features(pixels(batch)), expected[:, 0])
        assert_equal(module.vision.tokens(pixels(batch)), expected)
        assert_equal(module(pixels(batch)), theirs(pixels(batch)).logits)


@pytest.mark.parity("vit_classifier", "transformers ViTForImageClassification", "loss, every gradient")
def test_the_loss_and_the_gradient_of_every_parameter_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = tiny_vit(tmp_path)
    predictor = weights_from(tmp_path)
    classes = torch.tensor([2, 0, 1, 1, 2])
    loss = theirs(pixels(5), labels=classes).loss
    loss.backward()
    task = VitClassifierTask(predictor.config, predictor.processor)
    task.model = predictor.module.double()
    found = total(task.losses(ClassBatch(tuple("abcde"), pixels(5), classes, seeds=(0,) * 5)))
    found.backward()  # type: ignore[no-untyped-call]
    assert_equal(found, loss)
    compare_gradients(task.model, theirs, tables.transformers_vit(VISION["num_hidden_layers"]))


def test_pictures_of_other_sizes_are_those_of_transformers_with_interpolated_positions(tmp_path: Path) -> None:
    theirs = tiny_vit(tmp_path)
    module = weights_from(tmp_path).module.double()
    for height, width in ((24, 24), (8, 20), (32, 12)):
        images = pixels(2, height, width)
        with torch.no_grad():
            expected = theirs(images, interpolate_pos_encoding=True).logits
            assert_equal(module(images), expected)


@pytest.mark.parametrize("names", ["on disk", "in memory"])
def test_weights_are_read_under_both_names_that_the_library_has_for_them(tmp_path: Path, names: str) -> None:
    """Version 5 renamed the parts of ViT, and still writes the names of version 4 to disk."""
    theirs = tiny_vit(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {name: tensor.float() for name, tensor in theirs.state_dict().items()}
    older = "vit.encoder.layer.0.attention.attention.query.weight"
    assert older in load_file(path) and older not in state
    if names == "in memory":
        save_file(state, path, metadata={"format": "pt"})
    module = weights_from(tmp_path).module.double()
    with torch.no_grad():
        assert_equal(module(pixels(3)), theirs(pixels(3)).logits)


def test_what_the_configuration_leaves_out_is_the_default_of_transformers(tmp_path: Path) -> None:
    theirs = tiny_vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("layer_norm_eps") == 1e-12 and config.pop("hidden_act") == "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    module = weights_from(tmp_path).module.double()
    with torch.no_grad():
        assert_equal(module(pixels(3)), theirs(pixels(3)).logits)


def test_every_parameter_matters_to_the_logits(tmp_path: Path) -> None:
    tiny_vit(tmp_path)
    module = weights_from(tmp_path).module.double()
    assert insensitive(module, lambda: module(pixels(4)).detach()) == []


def test_the_predictor_names_the_classes_of_the_folder(tmp_path: Path) -> None:
    theirs = tiny_vit(tmp_path).float()
    predictor = load(tmp_path)
    assert isinstance(predictor, VitClassifierPredictor)
    assert predictor.classes == ("cat", "dog", "house")
    square = torch.from_numpy(photograph(IMAGE_SIZE, IMAGE_SIZE))
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    prepared = ((square / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected: Tensor = theirs(prepared).logits.log_softmax(-1)[:, [2, 0]]
    found = predictor.score([square.numpy()], ["house", "cat"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_head_of_another_size_is_refused(tmp_path: Path) -> None:
    tiny_vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"]["3"] = "fourth"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=re.escape("head.weight is not of the shape its configuration says")):
        weights_from(tmp_path)
