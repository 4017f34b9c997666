"""CLIP on pretrained towers: what is locked stays, cached features and whole towers give the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_public import CAPTIONS, photograph, randomise
from torch.nn import functional as F

from diptych.capabilities.folder import read_model, write_model
from diptych.core.losses import total
from diptych.core.task import Features
from diptych.data.batches.features import TowerBatch, TowerProcessor, TowerTexts
from diptych.data.pixels.tower_inputs import TowerImages
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import tiny_text_backbone, tiny_vision_backbone
from diptych.models.contrastive.locked_clip import (
    Config,
    LockedClipPredictor,
    LockedClipTask,
    image_tower_of,
    text_tower_of,
)

CONFIG = replace(Config.tiny(), dropout=0.5, input_dropout=0.3)
PICTURES = [photograph(40, 50, seed) for seed in range(5)]


def task_of(config: Config = CONFIG) -> LockedClipTask:
    """Random backbones and heads; pictures are normalised by 0.5 and 0.25, to be told from the default."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.fit(CAPTIONS, 300)
    images = TowerImages(32, 32, shorter_side=None, mean=(0.5,) * 3, std=(0.25,) * 3)
    towers = (
        image_tower_of(config, images, tiny_vision_backbone()),
        text_tower_of(config, tiny_text_backbone(tokenizer.vocab_size)),
    )
    task = LockedClipTask(config, TowerProcessor(images, TowerTexts(tokenizer, 64)), *towers)
    randomise(task.model.image_head)
    randomise(task.model.text_head)
    return task


def whole_batch(task: LockedClipTask) -> TowerBatch:
    tokens_BT, lengths_B = task.processor.texts.tokens(CAPTIONS)
    return TowerBatch(tuple("abcde"), task.processor.images.pixels(PICTURES), tokens_BT, lengths_B, torch.arange(5))


@torch.no_grad()
def cached_batch(task: LockedClipTask) -> TowerBatch:
    """The same samples as rows that the towers gave earlier."""
    whole = whole_batch(task)
    images = task.model.image_tower(whole.images)
    texts = task.model.text_tower(whole.texts, whole.lengths_B)
    return TowerBatch(whole.keys, images, texts, torch.zeros(5, dtype=torch.int64), whole.seeds_B)


def test_cached_features_give_the_loss_and_gradients_of_the_whole_towers() -> None:
    found = []
    for batch_of in (whole_batch, cached_batch):
        task = task_of()
        task.eval()
        loss = total(task.losses(batch_of(task)))
        loss.backward()  # type: ignore[no-untyped-call]
        found.append({"loss": loss.detach()} | {n: p.grad for n, p in task.named_parameters() if p.grad is not None})
    whole, cached = found
    assert whole.keys() == cached.keys() and len(whole) == 1 + 4 + 4 + 1
    for name, value in whole.items():
        torch.testing.assert_close(cached[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_the_embeddings_are_the_heads_of_the_towers_features_at_unit_length() -> None:
    task = task_of()
    task.eval()
    batch = cached_batch(task)
    features = task.features(batch).features
    for side, head, rows in (("image", "image_head", batch.images), ("text", "text_head", batch.texts)):
        state = dict(task.model.get_submodule(head).named_parameters())
        hidden = F.gelu(rows @ state["hidden.weight"].T + state["hidden.bias"])
        raw = hidden @ state["out.weight"].T + state["out.bias"]
        torch.testing.assert_close(features[side], raw / raw.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_the_loss_is_clips_at_its_scale() -> None:
    task = task_of()
    with torch.no_grad():
        task.model.log_scale.fill_(1.5)
    image, text = F.normalize(torch.randn(2, 6, 16), dim=-1)
    part = task.losses_from(Features(image=image, text=text))["contrastive"]
    logits = float(np.exp(1.5)) * image @ text.T
    target = torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(part.sum / part.count, expected)


@pytest.mark.parametrize(("value", "kept"), [(-3.0, 0.0), (1.0, 1.0), (9.0, np.log(100))])
def test_the_scale_is_kept_between_one_and_a_hundred(value: float, kept: float) -> None:
    task = task_of()
    with torch.no_grad():
        task.model.log_scale.fill_(value)
    task.after_step()
    assert float(task.model.log_scale.detach()) == pytest.approx(kept)
    assert task.summary() == {"scale": pytest.approx(np.exp(kept))}


@pytest.mark.parametrize(("image", "text"), [(False, False), (True, False), (False, True), (True, True)])
def test_only_what_is_to_be_trained_moves(image: bool, text: bool) -> None:
    task = task_of(replace(CONFIG, train_image=image, train_text=text)).train()
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    groups = [group.parameters for groups in task.trainable().values() for group in groups]
    names = {name for group in groups for name in group}
    assert any("image_tower" in name for name in names) == image
    assert any("text_tower" in name for name in names) == text
    optimizer = torch.optim.SGD([p for group in groups for p in group.values()], lr=0.1)
    total(task.losses(whole_batch(task))).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = {name for name, tensor in task.model.state_dict().items() if not torch.equal(tensor, before[name])}
    towers = {name.split(".")[0] for name in moved if "tower" in name}
    assert towers == {name for name, on in (("image_tower", image), ("text_tower", text)) if on}
    assert any(name.startswith("image_head") for name in moved) and any(name.startswith("text_head") for name in moved)


def test_dropout_is_of_the_heads_only_while_the_towers_are_locked() -> None:
    task = task_of().train()
    batch, model = whole_batch(task), task.model
    with torch.no_grad():
        assert torch.equal(model.image_tower(batch.images), model.image_tower(batch.images))
        one, again = (model.encode_image(batch.images, batch.seeds_B) for _ in range(2))
        assert torch.equal(one, again)  # of the sample, not of the moment
        assert not torch.equal(one, model.encode_image(batch.images, batch.seeds_B + 1))
        assert not torch.equal(one, model.encode_image(batch.images))


def test_the_predictor_gives_each_text_and_picture_its_vector_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of like length go together, in batches of two; the order is the caller's."""
    monkeypatch.setattr("diptych.models.contrastive.locked_clip.PREDICTION_BATCH", 2)
    task = task_of()
    predictor = task.predictor()
    predictor.module.eval()
    with torch.no_grad():
        expected = task.features(whole_batch(task)).features
    torch.testing.assert_close(predictor.encode_text(CAPTIONS), expected["text"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(predictor.encode_image(PICTURES), expected["image"], rtol=1e-4, atol=1e-5)
    prepared = (task.processor.images.pixels(PICTURES) / 255 - 0.5) / 0.25
    torch.testing.assert_close(predictor.encode_image(prepared), expected["image"], rtol=1e-4, atol=1e-5)
    assert float((expected["text"][0] - expected["text"][1]).abs().max()) > 1e-2


def test_a_saved_model_needs_no_folder_of_the_towers(tmp_path: Path) -> None:
    task = task_of()
    task.model.image_head.standardise_by(cached_batch(task).images)
    predictor = task.predictor()
    predictor.module.eval()
    write_model(predictor, tmp_path)
    again = read_model(tmp_path)
    assert isinstance(again, LockedClipPredictor)
    assert again.config == CONFIG and again.processor.images == task.processor.images
    for found, expected in (
        (again.encode_text(CAPTIONS), predictor.encode_text(CAPTIONS)),
        (again.encode_image(PICTURES), predictor.encode_image(PICTURES)),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not any(p.requires_grad for p in again.module.image_tower.parameters())


def test_nothing_to_encode_is_an_empty_answer() -> None:
    predictor = task_of().predictor()
    assert len(predictor.encode_image([])) == 0 and len(predictor.encode_text([])) == 0
