"""VisualBERT: who sees whom, what is asked of which pair, regions that are looked at, and bad questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import eight_samples, whole_batch
from tiny_detector import tiny_yolos
from torch import Tensor
from torch.nn import functional as F
from transformers import MobileNetV2Config, MobileNetV2Model

from diptych.capabilities.folder import read_model, write_model
from diptych.core.errors import ConfigError, DataError, DiptychError
from diptych.core.losses import IGNORED, total
from diptych.core.visual import Box, Image
from diptych.data.image_text import TextPreprocessing
from diptych.data.images import ImagePreprocessing
from diptych.data.other_captions import OtherCaptions
from diptych.data.region_batch import RegionTextBatch
from diptych.data.region_detector import FolderDetector
from diptych.data.region_text import RegionTextConfig, RegionTextProcessor
from diptych.data.regions import RegionConfig
from diptych.data.word_masking import mask_words
from diptych.layers.feature_map import BackboneMapConfig
from diptych.models.early_fusion import visualbert
from diptych.models.early_fusion._visualbert_module import Seen, VisualBert, asked_places, box_geometry
from diptych.models.early_fusion.visualbert import VisualBertPredictor, VisualBertTask

T, R = 7, 5


def task_of(name: str = "grid") -> VisualBertTask:
    """Every parameter away from where it begins, in float64."""
    torch.manual_seed(0)
    task = visualbert.tiny_tasks(eight_samples())[name].double()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return task


def batch_of(task: VisualBertTask) -> RegionTextBatch:
    batch: RegionTextBatch = whole_batch(task, eight_samples())
    return batch


def given(geometry: bool = True) -> tuple[Tensor, Tensor, Seen]:
    """Tokens, lengths and regions with pads on both sides."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 200, (2, T), generator=generator)
    features = torch.randn(2, R, 128, generator=generator, dtype=torch.float64)
    low = torch.rand(2, R, 2, generator=generator, dtype=torch.float64) / 2
    boxes = torch.cat([low, low + 0.3], dim=-1)
    return tokens, torch.tensor([T, 4]), Seen(features, torch.tensor([3, R]), boxes if geometry else None)


def real(lengths: Tensor, seen: Seen) -> Tensor:
    """[B, T + R], True where something stands."""
    words, regions = torch.arange(T) < lengths[:, None], torch.arange(R) < seen.counts_B[:, None]
    return torch.cat([words, regions], dim=1)


@torch.no_grad()
def test_words_and_regions_see_one_another_and_themselves_everywhere() -> None:
    model, (tokens, lengths, seen) = task_of().model, given()
    before = model(tokens, lengths, seen)
    for place in range(T + R):
        if not bool(real(lengths, seen)[0, place]):
            continue
        words, features = tokens.clone(), seen.features_BRF.clone()
        if place < T:
            words[0, place] = (words[0, place] + 17) % 200
        else:
            features[0, place - T] += 0.5
        moved = (model(words, lengths, seen._replace(features_BRF=features)) - before).abs().amax(-1)
        assert bool((moved[0][real(lengths, seen)[0]] > 1e-7).all()), place  # text<-text, text<-image, both ways
        assert float(moved[1].max()) == 0  # another pair


@torch.no_grad()
def test_padding_is_invisible_whatever_is_in_it_and_however_long() -> None:
    model, (tokens, lengths, seen) = task_of().model, given()
    before, here = model(tokens, lengths, seen), real(lengths, seen)
    words, features = tokens.clone(), seen.features_BRF.clone()
    words[1, 4:], features[0, 3:] = 5, 100.0
    moved = seen.boxes_BR4.clamp(0.2)  # type: ignore[union-attr]
    moved[here[:, T:]] = seen.boxes_BR4[here[:, T:]]  # type: ignore[index]
    after = model(words, lengths, seen._replace(features_BRF=features, boxes_BR4=moved))
    torch.testing.assert_close(after[here], before[here], rtol=1e-12, atol=1e-12)
    alone = model(tokens[1:, :4], lengths[1:], Seen(*(part[1:] for part in seen[:3])))  # type: ignore[misc]
    torch.testing.assert_close(alone[0], before[1][here[1]], rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_regions_have_no_order() -> None:
    model, (tokens, lengths, seen) = task_of().model, given()
    order = torch.tensor([3, 0, 4, 2, 1])
    turned = seen._replace(
        features_BRF=seen.features_BRF[:, order],
        boxes_BR4=seen.boxes_BR4[:, order],
        counts_B=torch.tensor([R, R]),  # type: ignore[index]
    )
    before = model(tokens, lengths, seen._replace(counts_B=torch.tensor([R, R])))
    after = model(tokens, lengths, turned)
    torch.testing.assert_close(after[:, :T], before[:, :T], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(after[:, T:], before[:, T:][:, order], rtol=1e-10, atol=1e-12)
    apart = turned._replace(boxes_BR4=seen.boxes_BR4)  # each region at another one's place
    assert float((model(tokens, lengths, apart)[:, 0] - before[:, 0]).abs().max()) > 1e-4


@torch.no_grad()
def test_without_box_geometry_it_does_not_matter_where_a_region_lies() -> None:
    model, (tokens, lengths, seen) = task_of("boxes").model, given()
    moved = seen._replace(boxes_BR4=seen.boxes_BR4.flip(1))  # type: ignore[union-attr]
    assert torch.equal(model(tokens, lengths, moved), model(tokens, lengths, seen))


@torch.no_grad()
def test_without_the_regions_the_words_are_others() -> None:
    model, (tokens, lengths, seen) = task_of().model, given()
    blank = seen._replace(features_BRF=torch.zeros_like(seen.features_BRF))
    difference = model.word_logits(model(tokens, lengths, blank)) - model.word_logits(model(tokens, lengths, seen))
    assert bool((difference[:, :4].abs().amax(-1) > 1e-3).all())


def test_geometry_is_centre_size_and_area() -> None:
    found = box_geometry(torch.tensor([[[0.2, 0.1, 0.6, 0.9], [0.0, 0.0, 1.0, 1.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[0.4, 0.5, 0.4, 0.8, 0.32], [0.5, 0.5, 1.0, 1.0, 1.0]]]))


def test_asked_places_are_those_with_labels_in_order() -> None:
    none = IGNORED
    labels = torch.tensor([[none, 7, none, 9], [none, none, none, none], [none, none, 3, none]])
    places, wanted = asked_places(labels)
    assert wanted.tolist() == [[7, 9], [none, none], [3, none]]
    assert places[0].tolist() == [1, 3] and int(places[2, 0]) == 2
    assert asked_places(labels[1:2])[0].shape == (1, 0)
    assert asked_places(labels[:0])[0].shape == (0, 0)


def test_the_losses_are_those_of_the_whole_sequence() -> None:
    """The few places that go through the last block and the heads say what all of them would."""
    task = task_of()
    batch = batch_of(task)
    words = mask_words(batch.seeds, batch.tokens_BT, batch.lengths_B, task.processor.tokenizer)
    assert 0 < int(batch.matches_B.sum()) < 8
    with torch.no_grad():
        found = task.losses(batch)
        hidden = task.model(words.tokens_BT, batch.lengths_B, task.model.look(batch.pictures))
        logits = task.model.word_logits(hidden[:, : batch.tokens_BT.shape[1]])
        labels = words.labels_BT[batch.matches_B]
        expected = F.cross_entropy(logits[batch.matches_B].flatten(0, 1), labels.flatten(), reduction="sum")
        odds = task.model.match_logits(hidden[:, 0])
    assert found["words"].count == int((labels != IGNORED).sum())
    torch.testing.assert_close(found["words"].sum, expected, rtol=1e-10, atol=1e-10)
    right = [float(row.log_softmax(-1)[0 if own else 1]) for row, own in zip(odds, batch.matches_B, strict=True)]
    assert float(found["matching"].sum) == pytest.approx(-sum(right), rel=1e-10)
    assert found["matching"].count == 8


def test_words_are_hidden_in_pairs_that_do_not_match_too_and_asked_for_in_none_of_them() -> None:
    task = task_of()
    batch = batch_of(task)
    masked = task._masked(batch)
    hidden = (masked.tokens_BT == task.processor.tokenizer.mask_id).any(1)
    assert bool(hidden[~batch.matches_B].any()) and bool(hidden[batch.matches_B].any())
    assert bool((masked.labels_BT[~batch.matches_B] == IGNORED).all())
    assert bool((masked.labels_BT[batch.matches_B] != IGNORED).any(1).all())


def test_a_batch_of_pairs_that_do_not_match_asks_for_no_word_and_still_has_every_gradient() -> None:
    task = task_of()
    batch = replace(batch_of(task), matches_B=torch.zeros(8, dtype=torch.bool))
    losses = task.losses(batch)
    assert losses["words"].count == 0 == float(losses["words"].sum.detach()) == task.counts(batch)["words"]
    total(losses).backward()
    assert all(parameter.grad is not None for parameter in task.parameters())


def test_it_begins_at_chance() -> None:
    torch.manual_seed(0)
    task = visualbert.tiny_tasks(eight_samples())["grid"]
    losses = task.losses(batch_of(task))
    assert float(losses["words"].value.detach()) == pytest.approx(
        math.log(task.processor.tokenizer.vocab_size), abs=0.3
    )
    assert float(losses["matching"].value.detach()) == pytest.approx(math.log(2), abs=0.05)


def test_recomputed_activations_give_the_same_gradients() -> None:
    task = task_of()
    found = []
    for on in (False, True):
        task.zero_grad()
        task.checkpoint_activations(on)
        total(task.losses(batch_of(task))).backward()
        found.append([parameter.grad.clone() for parameter in task.parameters() if parameter.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


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
    with pytest.raises(ConfigError, match="texts of up to 64 tokens do not fit the 32 positions"):
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
