"""What pretrained towers' cached features depend on, and towers of another picture size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.data.batches.features import TowerTexts
from diptych.data.derived.subset import Subset
from diptych.data.pixels.tower_inputs import TowerImages
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import tiny_text_backbone, tiny_vision_backbone
from diptych.models.contrastive import locked_clip
from diptych.recipes._towers import Towers, image_features, text_features

SOURCE = Subset(Scenes("train", 6), range(6))


@pytest.fixture
def towers() -> Towers:
    torch.manual_seed(0)
    config, images = locked_clip.Config.tiny(), TowerImages(32, 32, shorter_side=None)
    tokenizer = Tokenizer.fit([text for i in range(6) for text in SOURCE[i].texts], 300)
    image = locked_clip.image_tower_of(config, images, tiny_vision_backbone())
    text = locked_clip.text_tower_of(config, tiny_text_backbone(tokenizer.vocab_size))
    return Towers(image, text, images, TowerTexts(tokenizer, 64))


def cache(towers: Towers, root: Path) -> int:
    """Caches both sides; how many caches there are then."""
    image_features(root, SOURCE, towers, torch.device("cpu"), "float32", 4, 1, mirrored=False)
    text_features(root, SOURCE, towers, torch.device("cpu"), "float32", 4, 1)
    return len(list(root.iterdir()))


def test_another_architecture_makes_new_features(
    towers: Towers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.layers.frozen_pass.cpp_compiler", lambda: None)  # compiling takes longer
    assert cache(towers, tmp_path) == 2
    assert cache(towers, tmp_path) == 2
    towers.image.config.hidden_act = "relu"  # no weight shows it
    assert cache(towers, tmp_path) == 3
    towers.text.config.hidden_act = "relu"
    assert cache(towers, tmp_path) == 4


def test_a_tower_of_another_picture_size_is_refused_in_a_sentence(towers: Towers) -> None:
    assert towers.image_width() == 32
    other = replace(towers, images=replace(towers.images, height=48, width=48))
    with pytest.raises(ConfigError, match=r"does not take pictures of 48 x 48: --image_size 0"):
        other.image_width()
