"""VisualBERT's predictor: what is looked at, what is saved with the model, and bad questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import eight_samples
from random_visualbert import batch_of, task_of
from tiny_detector import tiny_yolos
from transformers import MobileNetV2Config, MobileNetV2Model

from diptych.capabilities.folder import read_model, write_model
from diptych.core.errors import ConfigError, DataError, DiptychError
from diptych.core.losses import total
from diptych.core.visual import Box, Image
from diptych.data.batches.image_text import TextPreprocessing
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.batches.region_text import RegionTextConfig, RegionTextProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.pixels.region_detector import FolderDetector
from diptych.data.pixels.regions import RegionConfig
from diptych.layers.feature_map import BackboneMapConfig
from diptych.models.early_fusion._visualbert_module import VisualBert
from diptych.models.early_fusion.visualbert import VisualBertPredictor, VisualBertTask


class Counted(RegionTextProcessor):
    """Counts the pictures that it is asked for."""

    looked = 0

    def pictures(self, visuals: Sequence[Any], threads: int = 2) -> Any:
        self.looked += len(visuals)
        return super().pictures(visuals, threads)


def predictor_of(name: str = "grid") -> VisualBertPredictor:
    predictor = task_of(name).float().predictor()
    predictor.module.eval()
    return predictor


def test_a_picture_that_comes_with_many_texts_is_looked_at_once() -> None:
    predictor = predictor_of()
    made = predictor.processor
    predictor.processor = counted = Counted(made.config, made.tokenizer)
    images, texts = [sample.image for sample in eight_samples()[:2]], ["a red circle", "a blue star", "a tree"]
    scores = predictor.score(images, texts)
    assert counted.looked == 2
    alone = torch.stack([torch.cat([predictor.score_pairs([image], [text]) for text in texts]) for image in images])
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)
    assert predictor.how("score") == "matching score of every pair"


def test_prepared_features_say_what_the_pictures_say() -> None:
    predictor = predictor_of("boxes")
    images, texts = [sample.image for sample in eight_samples()], [sample.texts[0] for sample in eight_samples()]
    features, counts = predictor.region_features(images)
    assert counts.tolist() == [1] * 8
    torch.testing.assert_close(
        predictor.score_pairs(features, texts), predictor.score_pairs(images, texts), rtol=1e-4, atol=1e-5
    )
    filled = predictor.fill_text(features, ["a [MASK] thing"] * 8)
    assert filled == predictor.fill_text(images, ["a [MASK] thing"] * 8)
    with pytest.raises(DataError, match="embeds where a region lies"):
        predictor_of("grid").score_pairs(features, texts)


def test_the_boxes_of_a_picture_are_what_is_looked_at() -> None:
    predictor = predictor_of("boxes")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    left, right = (Image(pixels_HWC=pixels, boxes=(box,)) for box in (Box(0, 0, 16, 32), Box(16, 0, 32, 32)))
    one, other = predictor.score_pairs([left, right], ["a red circle"] * 2).tolist()
    assert one != other
    with pytest.raises(DataError, match="outside the picture of 32 x 32 pixels"):
        predictor.score_pairs([Image(pixels_HWC=pixels, boxes=(Box(0, 0, 40, 8),))], ["a red circle"])


@pytest.mark.parametrize("text", ["", "  ", "<end>", "[MASK]"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="has no words"):
        predictor_of().score_pairs([eight_samples()[0].image], [text])


def test_unlike_numbers_of_pictures_and_texts_are_refused_by_the_verb() -> None:
    predictor, image = predictor_of(), eight_samples()[0].image
    with pytest.raises(DiptychError, match="score_pairs takes one text a visual: got 1 visuals and 2 texts"):
        predictor.score_pairs([image], ["a", "b"])
    with pytest.raises(DiptychError, match="fill_text takes one text a visual: got 2 visuals and 1 texts"):
        predictor.fill_text([image] * 2, ["a [MASK]"])
    assert predictor.score_pairs([], []).shape == (0,)
    assert predictor.fill_text([], []) == []


def settings_of(**changes: Any) -> RegionTextConfig:
    image = ImagePreprocessing(32, resize="squash", views=None)
    return replace(RegionTextConfig(image, TextPreprocessing(64), RegionConfig(grid=(1, 2))), **changes)


def test_sizes_that_do_not_fit_are_refused() -> None:
    task = task_of()
    tokenizer, config = task.processor.tokenizer, task.config
    with pytest.raises(ConfigError, match="texts of up to 64 tokens do not fit a context of 32"):
        small = replace(config, text=replace(config.text, context=32))
        VisualBertPredictor.build(small, RegionTextProcessor(settings_of(), tokenizer))
    with pytest.raises(ConfigError, match="the tokenizer has"):
        few = config.with_vocabulary(20)
        VisualBertPredictor.build(few, RegionTextProcessor(settings_of(), tokenizer))
    with pytest.raises(ConfigError, match="pretrained backbone, and none was given"):
        pretrained = replace(config, features=BackboneMapConfig(8))
        VisualBertPredictor.build(pretrained, RegionTextProcessor(settings_of(), tokenizer))


@pytest.mark.parametrize("trainable", [False, True])
def test_a_pretrained_map_is_saved_with_the_model_and_trained_where_asked(tmp_path: Path, trainable: bool) -> None:
    torch.manual_seed(0)
    backbone = MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.1, image_size=32))
    plain, samples = task_of(), eight_samples()
    config = replace(plain.config, features=BackboneMapConfig(1280, trainable))
    others = OtherCaptions([text for sample in samples for text in sample.texts])
    processor = RegionTextProcessor(settings_of(), plain.processor.tokenizer, others)
    task = VisualBertTask(config, processor, backbone=backbone)
    total(task.losses(batch_of(task))).backward()
    assert task.model.regions is not None
    gradients = [p.grad is not None for p in task.model.regions.map.parameters()]
    assert gradients and all(gradients) == trainable == any(gradients)
    same_after_saving(task.predictor(), tmp_path)


def test_a_detector_is_saved_with_the_model(tmp_path: Path) -> None:
    tiny_yolos(tmp_path / "yolos")
    regions = RegionConfig(grid=(1,), most=4, detector=str(tmp_path / "yolos"))
    detector = FolderDetector(tmp_path / "yolos")
    plain = task_of().float()
    processor = RegionTextProcessor(settings_of(regions=regions), plain.processor.tokenizer, detector=detector)
    module: VisualBert = plain.model
    predictor = VisualBertPredictor(plain.config, processor, module, "detecting")
    _, counts = predictor.region_features([eight_samples()[0].image])
    assert 2 <= int(counts[0]) <= 4
    same_after_saving(predictor, tmp_path, gone=tmp_path / "yolos")


def same_after_saving(predictor: VisualBertPredictor, folder: Path, gone: Path | None = None) -> None:
    """Read back, it says the same, also without the folders that it was made from."""
    samples = eight_samples()[:3]
    images, texts = [sample.image for sample in samples], [sample.texts[0] for sample in samples]
    predictor.module.eval()
    (folder / "saved").mkdir()
    write_model(predictor, folder / "saved")
    if gone is not None:
        gone.rename(gone.with_name("moved away"))
    again = read_model(folder / "saved")
    assert isinstance(again, VisualBertPredictor)
    assert torch.equal(again.score_pairs(images, texts), predictor.score_pairs(images, texts))
