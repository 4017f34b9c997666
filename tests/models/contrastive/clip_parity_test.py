"""Our CLIP against `transformers`' CLIPModel: every parameter random, float64, features to gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
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
    tiny_clip,
)
from torch import Tensor

from diptych.capabilities.load import load
from diptych.core.losses import total
from diptych.data.batches.image_text import ImageTextBatch
from diptych.models import _weight_tables as tables
from diptych.models.contrastive.clip import Clip, ClipPredictor, ClipTask, weights_from

END_ID = len(WORDS) + 1


def hf_tokens(predictor: ClipPredictor, captions: tuple[str, ...] = CAPTIONS) -> dict[str, Tensor]:
    """Tokens and mask as a `transformers` user passes them."""
    tokens_BT, lengths_B = predictor.processor.tokens(captions)
    mask = torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]
    return {"input_ids": tokens_BT, "attention_mask": mask.long()}


def ours_of(folder: Path) -> tuple[ClipPredictor, Clip]:
    predictor = weights_from(folder)
    module: Clip = predictor.module.double()
    return predictor, module


@pytest.mark.parity("clip", "transformers CLIPModel", "features, logits")
@pytest.mark.parametrize("batch", [1, 3])
def test_features_and_logits_are_those_of_transformers(tmp_path: Path, batch: int) -> None:
    theirs = tiny_clip(tmp_path)
    predictor, module = ours_of(tmp_path)
    images, captions = pixels(batch), CAPTIONS[:batch]
    tokens = hf_tokens(predictor, captions)
    with torch.no_grad():
        expected = theirs(pixel_values=images, **tokens)
        image_BD, text_BD = module(images, *predictor.processor.tokens(captions))
        logits = module.log_scale.exp() * image_BD @ text_BD.T
    assert_equal(image_BD, expected.image_embeds)
    assert_equal(text_BD, expected.text_embeds)
    assert_equal(logits, expected.logits_per_image)


@pytest.mark.parity("clip", "transformers CLIPModel", "every layer")
def test_every_layer_is_that_of_transformers(tmp_path: Path) -> None:
    theirs = tiny_clip(tmp_path)
    _, module = ours_of(tmp_path)
    with torch.no_grad():
        expected = theirs.vision_model(pixels(2), output_hidden_states=True).hidden_states
        x_BTD = module.vision.embed(pixels(2))
        assert_equal(x_BTD, expected[0])
        for block, layer in zip(module.vision.transformer.blocks, expected[1:], strict=True):
            x_BTD = block(x_BTD)
            assert_equal(x_BTD, layer)


@pytest.mark.parity("clip", "transformers CLIPModel", "loss, every gradient")
def test_the_loss_and_the_gradient_of_every_parameter_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = tiny_clip(tmp_path)
    predictor, module = ours_of(tmp_path)
    images, tokens = pixels(5), hf_tokens(predictor)
    loss = theirs(pixel_values=images, **tokens, return_loss=True).loss
    loss.backward()

    task = ClipTask(predictor.config, predictor.processor)
    task.model = module
    batch = ImageTextBatch(tuple("abcde"), images, *predictor.processor.tokens(CAPTIONS), seeds=(0,) * 5)
    found = total(task.losses(batch))
    found.backward()  # type: ignore[no-untyped-call]
    assert_equal(found, loss)
    compare_gradients(module, theirs, tables.transformers_clip(3, 2))


@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
@pytest.mark.parametrize("eos", [2, END_ID], ids=["legacy", "current"])
def test_texts_are_read_at_their_end_whatever_the_folder_calls_it(tmp_path: Path, eos: int, pad: str) -> None:
    """Old folders say eos 2 and mean the highest id; id 2 is a word here, and stands in the captions."""
    theirs = tiny_clip(tmp_path, pad=pad, text={"eos_token_id": eos})
    predictor, module = ours_of(tmp_path)
    tokens_BT, lengths_B = predictor.processor.tokens(CAPTIONS)
    assert bool((tokens_BT == 2).any())
    assert tokens_BT[1].tolist()[2:5] == [END_ID, *([END_ID] * 2 if pad != "!" else [0, 0])]
    with torch.no_grad():
        expected = theirs.get_text_features(**hf_tokens(predictor)).pooler_output
        found = module.text_head(module.text(tokens_BT, lengths_B))
    assert_equal(found, expected)


@pytest.mark.parametrize(("act", "other"), [("quick_gelu", "gelu"), ("gelu", "quick_gelu")])
def test_the_activation_is_the_one_the_folder_names(tmp_path: Path, act: str, other: str) -> None:
    theirs = tiny_clip(tmp_path, text={"hidden_act": act}, hidden_act=act)
    predictor, module = ours_of(tmp_path)
    captions = predictor.processor.tokens(CAPTIONS)
    expected = theirs(pixel_values=pixels(5), **hf_tokens(predictor)).logits_per_image
    image_BD, text_BD = module(pixels(5), *captions)
    assert_equal(module.log_scale.exp() * image_BD @ text_BD.T, expected)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["hidden_act"] = config["vision_config"]["hidden_act"] = other
    (tmp_path / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        wrong = ours_of(tmp_path)[1](pixels(5), *captions)
    assert float((wrong.image_BD - image_BD.detach()).abs().max()) > 1e-4
    assert float((wrong.text_BD - text_BD.detach()).abs().max()) > 1e-4


def test_what_the_configuration_leaves_out_is_the_default_of_transformers(tmp_path: Path) -> None:
    """Released folders leave out what equals the defaults of the class."""
    theirs = tiny_clip(tmp_path, text={"num_attention_heads": 8})
    config = json.loads((tmp_path / "config.json").read_text())
    for key, default in {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_attention_heads": 8}.items():
        assert config["text_config"].pop(key) == default
    for key in ("hidden_act", "layer_norm_eps"):
        del config["vision_config"][key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    predictor, module = ours_of(tmp_path)
    expected = theirs(pixel_values=pixels(5), **hf_tokens(predictor)).logits_per_image
    image_BD, text_BD = module(pixels(5), *predictor.processor.tokens(CAPTIONS))
    assert_equal(module.log_scale.exp() * image_BD @ text_BD.T, expected)


def test_every_parameter_matters_to_the_embeddings(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    predictor, module = ours_of(tmp_path)
    captions = predictor.processor.tokens(CAPTIONS)

    @torch.no_grad()
    def outputs() -> Tensor:
        image_BD, text_BD = module(pixels(5), *captions)
        return torch.cat([image_BD * module.log_scale.exp(), text_BD])

    assert insensitive(module, outputs) == []


def test_a_token_after_the_end_changes_nothing_and_one_before_it_does(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    _, module = ours_of(tmp_path)
    tokens = torch.tensor([[15, 3, 4, 16, 5, 6]])
    after, before = tokens.clone(), tokens.clone()
    after[0, 4], before[0, 2] = 7, 7
    length = torch.tensor([4])
    with torch.no_grad():
        text_BD = module.encode_text(tokens, length)
        assert torch.equal(module.encode_text(after, length), text_BD)
        assert float((module.encode_text(before, length) - text_BD).abs().max()) > 1e-3


def test_uint8_pictures_are_normalised_as_the_folder_says(tmp_path: Path) -> None:
    theirs = tiny_clip(tmp_path).float()
    predictor = weights_from(tmp_path)
    picture = torch.from_numpy(photograph(IMAGE_SIZE, IMAGE_SIZE)).permute(2, 0, 1)[None]
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    prepared = (picture / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    with torch.no_grad():
        features = theirs.get_image_features(prepared).pooler_output
    found = predictor.encode_image([picture[0].permute(1, 2, 0).numpy()])
    torch.testing.assert_close(found, torch.nn.functional.normalize(features, dim=-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["safetensors", "several", "bin"])
def test_weights_are_read_in_every_form_that_folders_have(tmp_path: Path, form: str) -> None:
    theirs = tiny_clip(tmp_path).float()
    expected = weights_from(tmp_path).encode_text(list(CAPTIONS))
    if form == "several":
        (tmp_path / "model.safetensors").unlink()
        theirs.save_pretrained(tmp_path, max_shard_size="20KB")
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    if form == "bin":
        (tmp_path / "model.safetensors").unlink()
        positions = {"text_model.embeddings.position_ids": torch.arange(12)[None]}  # as older files have it
        torch.save(theirs.state_dict() | positions, tmp_path / "pytorch_model.bin")
    predictor = load(tmp_path)
    assert isinstance(predictor, ClipPredictor)
    assert torch.equal(predictor.encode_text(list(CAPTIONS)), expected)


def test_half_precision_files_are_read_as_float32(tmp_path: Path) -> None:
    theirs: Any = tiny_clip(tmp_path)
    theirs.half().save_pretrained(tmp_path)
    module = weights_from(tmp_path).module
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert torch.equal(module.get_parameter("image_head.weight"), theirs.visual_projection.weight.float())


def test_preprocessing_inside_the_configuration_of_a_whole_processor_is_read(tmp_path: Path) -> None:
    """What version 5 writes when a processor is saved: there is no preprocessor_config.json then."""
    tiny_clip(tmp_path)
    before = weights_from(tmp_path).processor.config.image
    images = transformers.CLIPImageProcessorPil.from_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    whole: Any = transformers.CLIPProcessor
    whole(image_processor=images, tokenizer=tokenizer).save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    predictor = weights_from(tmp_path)
    assert predictor.processor.config.image == before
    assert predictor.processor.tokens(CAPTIONS)[0].shape == (5, CONTEXT)


def test_pictures_that_are_not_normalised_have_mean_zero_and_deviation_one(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_normalize": False}))
    module = weights_from(tmp_path).module
    white = module.normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    torch.testing.assert_close(white, torch.ones(1, 3, 2, 2))
