"""Conversations on cached features of a frozen tower: the loss of the pictures themselves, and nothing stale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.cached.picture_features import PictureFeatures
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.pixels.images import ImagePreprocessing, pixels_of
from diptych.data.pixels.views import Views
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._picture_rows import Pass, picture_features

EAGER = Pass(torch.device("cpu"), "float32", 4, 1, compiled=False, kept="float32")


class Talks:
    """Scenes with none, one and two pictures; those of which pictures are `gone` cannot be decoded."""

    name = "talks"

    def __init__(self, gone: bool = False) -> None:
        self.scenes, self.gone = Scenes("train", 6, SceneConfig(32, 1)), gone

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        sample = self.scenes[index]
        shown = (*sample.visuals, *self.scenes[(index + 1) % 6].visuals)[: index % 3]
        if self.gone:
            shown = tuple(Image(encoded=b"no picture", name="gone") for _ in shown)
        return replace(sample, visuals=shown, texts=())

    def keys(self) -> list[str]:
        return list(self.scenes.keys())

    def fingerprint(self) -> str:
        return "talks"


@pytest.fixture
def task() -> llava.LlavaTask:
    torch.manual_seed(0)
    made = llava.tiny_tasks([Scenes("train", 6, SceneConfig(32, 1))[index] for index in range(6)])["average"]
    old = made.processor
    made.processor = ConversationProcessor(replace(old.config, pictures=2), old.tokenizer, old.template)
    return made.eval()


def cached(task: llava.LlavaTask, root: Path, how: Pass = EAGER, mirrored: bool = False) -> ConversationProcessor:
    made = task.processor
    features = picture_features(root, Talks(), task.model.tower, made.config.image, how, mirrored)
    return ConversationProcessor(made.config, made.tokenizer, made.template, features)


def whole(source: Talks, processor: ConversationProcessor) -> ConversationBatch:
    return next(iter(EvaluationBatches(source, processor, 6, 1, 0.0)))


@torch.no_grad()
@pytest.mark.parametrize(("kept", "near"), [("float32", 1e-6), ("float16", 1e-3)])
def test_the_loss_is_that_of_the_pictures_which_are_not_read_again(
    task: llava.LlavaTask, tmp_path: Path, kept: str, near: float
) -> None:
    seen = whole(Talks(), task.processor)
    batch = whole(Talks(gone=True), cached(task, tmp_path, replace(EAGER, kept=kept)))
    assert batch.features_NSC is not None and batch.counts == seen.counts == (0, 1, 2, 0, 1, 2)
    wanted, found = task.losses(seen)["answers"], task.losses(batch)["answers"]
    assert float(found.sum) == pytest.approx(float(wanted.sum), rel=near) and found.count == wanted.count
    parts = [task.losses(part)["answers"] for part in batch.split(4)]
    assert sum(float(part.sum) for part in parts) == pytest.approx(float(found.sum), rel=1e-5)
    swapped = replace(batch, features_NSC=batch.features_NSC.flip(0))
    assert float(task.losses(swapped)["answers"].sum) != pytest.approx(float(wanted.sum), rel=1e-3)


def test_mirrored_pictures_are_a_drawn_view_of_each(task: llava.LlavaTask, tmp_path: Path) -> None:
    features = cached(task, tmp_path, mirrored=True).features
    assert isinstance(features, PictureFeatures)
    sample, sides = Talks()[2], set()
    pixels = pixels_of(list(sample.visuals), task.processor.config.image, 1)
    with torch.no_grad():
        plain, turned = (task.model.tower(one).flatten(1) for one in (pixels, pixels.flip(-1)))
    for epoch in range(12):
        out = np.zeros((2, features.rows.width), np.float32)
        features.fill(out, sample.key, 2, Draw(0, epoch, sample.key))
        near = [[np.allclose(row, of[place], atol=1e-4) for of in (plain, turned)] for place, row in enumerate(out)]
        assert all(any(one) for one in near)
        sides.add(tuple(one[1] for one in near))
    assert len(sides) == 4  # each picture by itself
    features.fill(out, sample.key, 2, None)
    np.testing.assert_allclose(out, plain, atol=1e-4)
    with pytest.raises(BadSample, match="other pictures than cached"):
        features.fill(out[:1].repeat(3, 0), sample.key, 3, None)
    with pytest.raises(BadSample, match="no features"):
        features.fill(out, "nobody", 1, None)


def test_whatever_changes_features_makes_new_ones(task: llava.LlavaTask, tmp_path: Path) -> None:
    def count(image: ImagePreprocessing, mirrored: bool = False) -> int:
        picture_features(tmp_path, Talks(), tower, image, EAGER, mirrored)
        return len(list(tmp_path.iterdir()))

    tower, image = task.model.tower, task.processor.config.image
    assert count(image) == count(image) == 1
    assert count(replace(image, resize="squash")) == 2
    assert count(image, mirrored=True) == 3
    with torch.no_grad():
        next(tower.parameters()).add_(0.01)
    assert count(image) == 4
    tower.config.hidden_act = "relu"  # no weight shows it
    assert count(image) == 5
    tower.mean_C11.add_(0.1)
    assert count(image) == 6


def test_what_cannot_be_cached_is_refused(task: llava.LlavaTask, tmp_path: Path) -> None:
    image = replace(task.processor.config.image, views=Views())
    with pytest.raises(ConfigError, match="random views cannot be cached"):
        picture_features(tmp_path, Talks(), task.model.tower, image, EAGER)
    with pytest.raises(ConfigError, match="tower that is trained cannot be cached"):
        llava.LlavaTask(task.config, cached(task, tmp_path), task.model.tower, task.model.language, Trained(tower=True))
