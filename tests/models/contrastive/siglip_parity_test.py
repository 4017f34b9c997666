"""Our SigLIP against `transformers`' SiglipModel: every parameter random, float64, features to gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_public import (
    CAPTIONS,
    CONTEXT,
    IMAGE_SIZE,
    WORDS,
    assert_equal,
    compare_gradients,
    insensitive,
    photograph,
    pixels,
    tiny_siglip,
)
from torch import Tensor

from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError
from diptych.core.losses import total
from diptych.data.batches.image_text import ImageTextBatch
from diptych.models import _weight_tables as tables
from diptych.models.contrastive.siglip import Siglip, SiglipPredictor, SiglipTask, weights_from

PAD_ID = len(WORDS) + 1


def ours_of(folder: Path) -> tuple[SiglipPredictor, Siglip]:
    predictor = weights_from(folder)
    module: Siglip = predictor.module.double()
    return predictor, module


@pytest.mark.parity("siglip", "transformers SiglipModel", "features, logits")
@pytest.mark.parametrize("batch", [1, 3])
def test_features_and_logits_are_those_of_transformers(tmp_path: Path, batch: int) -> None:
    theirs = tiny_siglip(tmp_path)
    predictor, module = ours_of(tmp_path)
    images, (tokens_BT, lengths_B) = pixels(batch), predictor.processor.tokens(CAPTIONS[:batch])
    with torch.no_grad():
        expected = theirs(pixel_values=images, input_ids=tokens_BT)
        image_BD, text_BD = module(images, tokens_BT, lengths_B)
        logits = module.log_scale.exp() * image_BD @ text_BD.T + module.bias
    assert_equal(image_BD, expected.image_embeds)
    assert_equal(text_BD, expected.text_embeds)
    assert_equal(logits, expected.logits_per_image)


@pytest.mark.parity("siglip", "transformers SiglipModel", "loss, every gradient")
def test_the_loss_and_the_gradient_of_every_parameter_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = tiny_siglip(tmp_path)
    predictor, module = ours_of(tmp_path)
    images, (tokens_BT, lengths_B) = pixels(5), predictor.processor.tokens(CAPTIONS)
    loss = theirs(pixel_values=images, input_ids=tokens_BT, return_loss=True).loss
    loss.backward()

    task = SiglipTask(predictor.config, predictor.processor)
    task.model = module
    found = total(task.losses(ImageTextBatch(tuple("abcde"), images, tokens_BT, lengths_B, seeds=(0,) * 5)))
    found.backward()  # type: ignore[no-untyped-call]
    assert_equal(found, loss)
    compare_gradients(module, theirs, tables.transformers_siglip(3, 2))


@pytest.mark.parity("siglip", "transformers SiglipModel", "attention pooling")
def test_the_attention_pooling_is_that_of_transformers(tmp_path: Path) -> None:
    theirs = tiny_siglip(tmp_path)
    _, module = ours_of(tmp_path)
    hidden = pixels(3)[:, 0, :7].reshape(3, -1)[:, :80].reshape(3, 4, 20)
    pool = module.vision.pool
    assert pool is not None
    with torch.no_grad():
        assert_equal(pool(hidden), theirs.vision_model.head(hidden))
        assert_equal(pool(hidden.flip(1)), pool(hidden))  # a set of patches, in no order


def test_texts_are_padded_to_the_context_and_read_at_its_last_position(tmp_path: Path) -> None:
    theirs = tiny_siglip(tmp_path)
    predictor, module = ours_of(tmp_path)
    tokens_BT, lengths_B = predictor.processor.tokens(["red"])
    assert tokens_BT.tolist() == [[WORDS.index("red"), *[PAD_ID] * (CONTEXT - 1)]]
    with torch.no_grad():
        expected = theirs.get_text_features(input_ids=tokens_BT).pooler_output
        found = module.text_head(module.text(tokens_BT, lengths_B))
        shorter = module.text_head(module.text(tokens_BT[:, :6], lengths_B))
    assert_equal(found, expected)
    assert float((shorter - expected).abs().max()) > 1e-3  # padding is part of this model


def test_every_token_is_seen_also_what_comes_later(tmp_path: Path) -> None:
    tiny_siglip(tmp_path)
    predictor, module = ours_of(tmp_path)
    tokens_BT, _ = predictor.processor.tokens(CAPTIONS[2:3])
    with torch.no_grad():
        x_BTD = module.text.embedding(tokens_BT) + module.text.positions_TD
        first = module.text.transformer(x_BTD)[0, 0]
        changed = x_BTD.clone()
        changed[0, -1] += torch.arange(24) % 3
        assert float((module.text.transformer(changed)[0, 0] - first).abs().max()) > 1e-4


def test_every_parameter_matters_to_the_log_odds(tmp_path: Path) -> None:
    tiny_siglip(tmp_path)
    predictor, module = ours_of(tmp_path)
    captions = predictor.processor.tokens(CAPTIONS)

    @torch.no_grad()
    def outputs() -> Tensor:
        image_BD, text_BD = module(pixels(5), *captions)
        logits: Tensor = module.log_scale.exp() * image_BD @ text_BD.T + module.bias
        return logits

    assert insensitive(module, outputs) == []


def test_the_predictor_scores_whole_pictures_and_strings_as_transformers_does(tmp_path: Path) -> None:
    theirs = tiny_siglip(tmp_path).float()
    predictor = load(tmp_path)
    assert isinstance(predictor, SiglipPredictor)
    square = torch.from_numpy(photograph(IMAGE_SIZE, IMAGE_SIZE))
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    prepared = ((square / 255 - mean) / std).permute(2, 0, 1)[None]
    tokens_BT, _ = predictor.processor.tokens(CAPTIONS)
    with torch.no_grad():
        expected = theirs(pixel_values=prepared, input_ids=tokens_BT).logits_per_image
    found = predictor.score([square.numpy()], list(CAPTIONS))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("act", ["gelu", "gelu_pytorch_tanh"])
def test_the_activation_is_the_one_the_folder_names(tmp_path: Path, act: str) -> None:
    theirs = tiny_siglip(tmp_path, text={"hidden_act": act}, hidden_act=act)
    predictor, module = ours_of(tmp_path)
    tokens_BT, lengths_B = predictor.processor.tokens(CAPTIONS)
    with torch.no_grad():
        expected = theirs(pixel_values=pixels(5), input_ids=tokens_BT)
        found = module(pixels(5), tokens_BT, lengths_B)
    torch.testing.assert_close(found.image_BD, expected.image_embeds)
    assert_equal(found.text_BD, expected.text_embeds)


def test_a_folder_that_leaves_out_the_defaults_is_read_with_the_defaults_of_transformers(tmp_path: Path) -> None:
    theirs = tiny_siglip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for side in ("text_config", "vision_config"):
        assert config[side].pop("hidden_act") == "gelu_pytorch_tanh"
        assert config[side].pop("layer_norm_eps") == 1e-6
    (tmp_path / "config.json").write_text(json.dumps(config))
    _, module = ours_of(tmp_path)
    with torch.no_grad():
        expected = theirs.get_image_features(pixels(2)).pooler_output
        assert_equal(module.vision(pixels(2)), expected)


def test_a_folder_without_attention_pooling_is_refused_by_the_weight_it_lacks(tmp_path: Path) -> None:
    tiny_siglip(tmp_path, vision_use_head=False)
    with pytest.raises(CheckpointError, match=r"lacks the weight vision_model\.head"):
        weights_from(tmp_path)


def test_a_text_side_of_another_width_is_refused(tmp_path: Path) -> None:
    tiny_siglip(tmp_path, text={"projection_size": 22})
    with pytest.raises(CheckpointError, match=r"text_head\.weight is not of the shape"):
        weights_from(tmp_path)
