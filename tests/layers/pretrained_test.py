"""Towers from `transformers` folders made here: their features are the library's own, pooled by closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_backbones import HF, LENGTHS, TOKENS, bert, mobilenet, pictures, saved, two_towers, vit

from diptych.core.errors import CheckpointError
from diptych.layers.backbone_folder import backbone_from_config, read_backbone
from diptych.layers.pretrained import ImageTower, TextTower, Tower


def image_tower(folder: Path, **settings: Any) -> ImageTower:
    return ImageTower(read_backbone(folder, "vision"), **settings)


def test_pooled_features_are_the_librarys_of_pictures_normalised_by_hand(tmp_path: Path) -> None:
    theirs = mobilenet(tmp_path).mobilenet_v2
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    tower = image_tower(tmp_path, scale=1 / 128, mean=mean, std=std)
    prepared = (pictures(32) / 128 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    with torch.no_grad():
        expected = theirs(prepared).pooler_output
        assert float(expected.std()) > 1e-3
        torch.testing.assert_close(tower(pictures(32)), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tower(prepared), expected, rtol=1e-5, atol=1e-6)  # floats are prepared


def test_the_places_of_a_feature_map_are_its_tokens(tmp_path: Path) -> None:
    theirs = mobilenet(tmp_path).mobilenet_v2
    prepared = pictures(64) / 255 - 0.5
    with torch.no_grad():
        map_BDHW = theirs(prepared).last_hidden_state
        assert map_BDHW.shape[-2:] == (2, 2)
        found = image_tower(tmp_path, readout="mean")(prepared)
    torch.testing.assert_close(found, map_BDHW.sum((2, 3)) / 4)


def test_a_feature_map_has_no_class_token(tmp_path: Path) -> None:
    mobilenet(tmp_path)
    with pytest.raises(CheckpointError, match="mobilenet_v2 has no class token: choose readout 'pooled' or 'mean'"):
        image_tower(tmp_path, readout="cls")(pictures(32))


@pytest.mark.parametrize("readout", ["pooled", "mean", "cls"])
def test_a_vision_transformer_is_read_as_asked(tmp_path: Path, readout: Any) -> None:
    theirs = vit(tmp_path)
    prepared = pictures(16) / 127.5 - 1
    with torch.no_grad():
        output = theirs(prepared)
        hidden = output.last_hidden_state
        expected = {"pooled": output.pooler_output, "mean": hidden.sum(1) / 5, "cls": hidden[:, 0]}
        found = image_tower(tmp_path, readout=readout)(pictures(16))
    torch.testing.assert_close(found, expected[readout], rtol=1e-4, atol=1e-5)


def test_a_pooling_layer_that_nothing_reads_is_not_there_to_be_trained(tmp_path: Path) -> None:
    vit(tmp_path)
    tower = image_tower(tmp_path, readout="cls", trainable=True)
    tower(pictures(16)).square().sum().backward()
    assert [name for name, p in tower.named_parameters() if p.grad is None] == []
    assert not any("pooler" in name for name, _ in tower.named_parameters())


def test_a_network_that_always_pools_keeps_its_pooling(tmp_path: Path) -> None:
    config = HF.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=2)
    theirs = saved(HF.ResNetModel(config), tmp_path)
    prepared = pictures(32) / 127.5 - 1
    with torch.no_grad():
        expected = theirs(prepared).pooler_output.flatten(1)
        torch.testing.assert_close(image_tower(tmp_path, readout="mean")(prepared), expected)
        torch.testing.assert_close(image_tower(tmp_path)(prepared), expected)


def test_pooled_features_of_a_backbone_without_any_are_refused(tmp_path: Path) -> None:
    vit(tmp_path)
    backbone: Any = read_backbone(tmp_path, "vision")
    backbone.pooler = None
    with pytest.raises(CheckpointError, match="vit has no pooled output: choose readout 'mean' or 'cls'"):
        ImageTower(backbone)(pictures(16))


@pytest.mark.parametrize("readout", ["mean", "cls", "last"])
def test_a_sentence_encoder_is_pooled_over_its_own_tokens_only(tmp_path: Path, readout: Any) -> None:
    """Mean pooling as sentence-transformers defines it: the sum under the mask over the sum of the mask."""
    theirs = bert(tmp_path)
    tower = TextTower(read_backbone(tmp_path, "text"), readout=readout)
    with torch.no_grad():
        rows = []
        for tokens, length in zip(TOKENS, LENGTHS.tolist(), strict=True):
            hidden = theirs(tokens[None, :length]).last_hidden_state[0]
            rows.append({"mean": hidden.sum(0) / length, "cls": hidden[0], "last": hidden[-1]}[readout])
        torch.testing.assert_close(tower(TOKENS, LENGTHS), torch.stack(rows), rtol=1e-4, atol=1e-5)


def test_padding_of_any_length_and_content_changes_no_sentence(tmp_path: Path) -> None:
    bert(tmp_path)
    tower = TextTower(read_backbone(tmp_path, "text"))
    other = torch.where(torch.arange(9) < LENGTHS[:, None], TOKENS, 7)
    longer = torch.nn.functional.pad(other, (0, 5), value=3)
    with torch.no_grad():
        expected = tower(TOKENS, LENGTHS)
        for padded in (other, longer):
            torch.testing.assert_close(tower(padded, LENGTHS), expected, rtol=1e-4, atol=1e-5)


def test_each_side_of_a_two_tower_model_is_a_tower(tmp_path: Path) -> None:
    theirs = two_towers(tmp_path)
    prepared = pictures(16) / 127.5 - 1
    lengths = torch.full((4,), 9)
    with torch.no_grad():
        images, texts = theirs.vision_model(prepared), theirs.text_model(TOKENS)
        found = ImageTower(read_backbone(tmp_path, "vision"))(prepared)
        torch.testing.assert_close(found, images.pooler_output, rtol=1e-4, atol=1e-5)
        found = TextTower(read_backbone(tmp_path, "text"), readout="last")(TOKENS, lengths)
        torch.testing.assert_close(found, texts.last_hidden_state[:, -1], rtol=1e-4, atol=1e-5)


def modes(tower: Tower) -> set[bool]:
    norms = torch.nn.BatchNorm2d
    return {module.training for module in tower.backbone.modules() if not isinstance(module, norms)}


@pytest.mark.parametrize("trainable", [False, True])
def test_a_frozen_tower_is_frozen_in_every_respect_and_batch_norm_always(tmp_path: Path, trainable: bool) -> None:
    mobilenet(tmp_path)
    tower = image_tower(tmp_path, trainable=trainable)
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    tower.train()
    assert modes(tower) == {trainable}
    assert {p.requires_grad for p in tower.parameters()} == {trainable}
    norms = [module for module in tower.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    tower(pictures(32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.state_dict().items())
    tower.eval()
    assert modes(tower) == {False}


def test_a_tower_is_built_again_from_what_it_wrote(tmp_path: Path) -> None:
    mobilenet(tmp_path / "from")
    tower = image_tower(tmp_path / "from")
    tower.write_config(tmp_path / "to")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["config.json"]
    again = ImageTower(backbone_from_config(tmp_path / "to", "vision"))
    again.load_state_dict(tower.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(pictures(32)), tower(pictures(32)), rtol=1e-5, atol=1e-6)


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    vit(tmp_path).half().save_pretrained(tmp_path)
    assert {p.dtype for p in read_backbone(tmp_path, "vision").parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["mobilenet_v1_0.5_160", "mobilenet_v2_1.0_224"])
def test_real_weights_give_the_librarys_features(shared_data: Path, name: str) -> None:
    folder = shared_data / "weights" / name
    if not folder.is_dir():
        pytest.skip(f"no weights at {folder}")
    theirs = HF.AutoModel.from_pretrained(folder).eval()
    side = theirs.config.image_size
    with torch.no_grad():
        expected = theirs(pixel_values=pictures(side) / 127.5 - 1).pooler_output
        found = image_tower(folder)(pictures(side))
    assert found.shape[1] == {"mobilenet_v1_0.5_160": 512, "mobilenet_v2_1.0_224": 1280}[name]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
