"""Adapted models: what is trained, what stays as it was, their loss, and the bases they go onto."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diptych.adapters.context import ContextConfig
from diptych.capabilities.export import export
from diptych.capabilities.folder import read_model, write_model
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.core.losses import total
from diptych.core.seeding import seed_everything
from diptych.data.batches.classes import ClassBatch
from diptych.data.derived.subset import Subset
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.weight_hash import weight_hash
from diptych.models.contrastive import clip, cocoop, linear_classifier, locked_clip, siglip
from diptych.models.contrastive._on_base import OnBaseTask, adaptable, class_processor
from diptych.models.contrastive._two_towers import TwoTowerPredictor
from diptych.models.contrastive.adapted import AdaptedPredictor, AdaptedTask, Config, Method

SCENES = Subset(Scenes("train", config=SceneConfig(size=32, objects=1)), range(12))
SAMPLES = [SCENES[index] for index in range(12)]
NAMES = tuple(sorted({str(sample.meta["class"]) for sample in SAMPLES}))
ADAPTED: tuple[Method, ...] = ("coop", "vpt_shallow", "vpt_deep", "clip_adapter", "lora")
ALL = (*ADAPTED, "cocoop", "linear_probe")
CONTEXT = ContextConfig(4)
CLASSES, WIDTH, JOINT, DEPTH = len(NAMES), 96, 64, 3
LORA_MAPS = 2 * DEPTH * 4 * ((WIDTH + 3 * WIDTH) + (WIDTH + WIDTH))
COUNTS = {
    "coop": 4 * WIDTH,
    "vpt_shallow": 8 * WIDTH,
    "vpt_deep": DEPTH * 8 * WIDTH,
    "clip_adapter": 2 * JOINT * (JOINT // 4),
    "lora": LORA_MAPS,
    "cocoop": 4 * WIDTH + JOINT * 4 + 4 + 4 * WIDTH + WIDTH,
    "linear_probe": JOINT * CLASSES + CLASSES,
}


def base_of(family: str = "clip") -> TwoTowerPredictor:
    seed_everything("base", family)
    module = clip if family == "clip" else siglip
    return adaptable(module.tiny_tasks(SAMPLES)["contrastive"].predictor())


def task_of(method: str, base: TwoTowerPredictor | None = None, **changes: object) -> OnBaseTask:
    base = base or base_of()
    processor = class_processor(base, NAMES)
    seed_everything("adapter")
    if method == "cocoop":
        return cocoop.CocoopTask(cocoop.Config(CONTEXT), processor, base)
    if method == "linear_probe":
        return linear_classifier.LinearClassifierTask(linear_classifier.Config(), processor, base)
    config = Config(method=method, context=CONTEXT)  # type: ignore[arg-type]
    return AdaptedTask(replace(config, **changes), processor, base)  # type: ignore[arg-type]


def batch_of(task: OnBaseTask) -> ClassBatch:
    return next(iter(evaluation_batches(SCENES, task.processor, 12)))


def randomised(task: OnBaseTask) -> OnBaseTask:
    task = task.double()
    with torch.no_grad():
        for parameter in task.parameters():
            if parameter.ndim:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return task


@pytest.mark.parametrize("method", ALL)
def test_what_is_trained_is_the_adapter_alone_and_of_the_size_of_the_formula(method: str) -> None:
    task = task_of(method)
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == COUNTS[method]
    assert all(("lora_" in name) if method == "lora" else not name.startswith("model.base.") for name in trained)
    grouped = {name for group in task.trainable()["main"] for name in group.parameters}
    assert grouped == trained.keys()


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("method", ALL)
def test_training_leaves_the_base_as_it_was_by_its_hash(method: str, family: str) -> None:
    base = base_of(family)
    frozen = copy.deepcopy(base.module)
    before = weight_hash(frozen)
    task = task_of(method, base)
    adapter = {name: p.detach().clone() for name, p in task.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2, weight_decay=0.5)
    task.train()
    for _ in range(3):
        optimizer.zero_grad()
        total(task.losses(batch_of(task))).backward()
        optimizer.step()
    assert not base.module.training
    now = {name.replace(".base_layer", ""): p for name, p in base.module.state_dict().items() if "lora_" not in name}
    frozen.load_state_dict(now)
    assert weight_hash(frozen) == before
    moved = [name for name, p in task.named_parameters() if name in adapter and not torch.equal(p, adapter[name])]
    assert len(moved) == len(adapter)


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("method", ADAPTED)
def test_the_loss_is_the_cross_entropy_of_the_cosines_at_the_bases_scale(method: Method, family: str) -> None:
    task = randomised(task_of(method, base_of(family)))
    batch, predictor = batch_of(task), task.predictor()
    assert isinstance(predictor, AdaptedPredictor)
    texts = predictor.config.texts(NAMES)
    assert texts == list(NAMES) if method == "coop" else [f"a photo of a {name}" for name in NAMES]
    cosines = predictor.encode_image(SCENES_PICTURES) @ predictor.encode_text(texts).T
    shares = (predictor.module.scale.detach() * cosines).softmax(1)
    expected = -sum(float(shares[row, int(c)].log()) for row, c in enumerate(batch.classes_B))
    (part,) = task.losses(batch).values()
    assert float(part.sum.detach()) == pytest.approx(expected, rel=2e-4)
    assert part.count == 12


SCENES_PICTURES = [sample.image for sample in SAMPLES]


def test_the_gradient_of_context_by_finite_differences() -> None:
    task = randomised(task_of("coop"))
    batch, (context,) = batch_of(task), [p for p in task.parameters() if p.requires_grad]
    total(task.losses(batch)).backward()
    assert context.grad is not None
    for place in [(0, 0), (3, 95), (1, 40)]:
        moved = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                context[place] += step
                moved.append(float(total(task.losses(batch))))
                context[place] -= step
        assert float(context.grad[place]) == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("method", ALL)
def test_training_and_predicting_name_the_same_class(method: str) -> None:
    task = randomised(task_of(method)).float().eval()
    predictor = task.predictor()
    texts = predictor.config.texts(NAMES) if isinstance(predictor, AdaptedPredictor) else list(NAMES)
    chosen = predictor.score(SCENES_PICTURES, texts).argmax(1)
    assert torch.equal(chosen, task.logits(batch_of(task)).argmax(1))


def test_words_to_start_from_are_zero_shot() -> None:
    base = base_of()
    expected = base.encode_text([f"a photo of a {name}" for name in NAMES])
    task = task_of("coop", base, context=ContextConfig(words="a photo of a"))
    torch.testing.assert_close(task.predictor().encode_text(NAMES), expected, rtol=0, atol=1e-6)


def test_a_ratio_of_0_is_zero_shot() -> None:
    base = base_of()
    expected = base.score(SCENES_PICTURES, [f"a photo of a {name}" for name in NAMES])
    predictor = task_of("clip_adapter", base, ratio=0.0).predictor()
    torch.testing.assert_close(
        predictor.score(SCENES_PICTURES, [f"a photo of a {name}" for name in NAMES]), expected, rtol=0, atol=1e-6
    )


def test_lora_is_zero_shot_at_first_and_merged_a_plain_model_that_can_be_exported(tmp_path: Path) -> None:
    base = base_of()
    expected = base.encode_image(SCENES_PICTURES)
    task = task_of("lora", base)
    predictor = task.predictor()
    assert isinstance(predictor, AdaptedPredictor)
    torch.testing.assert_close(predictor.encode_image(SCENES_PICTURES), expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        for name, parameter in task.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    changed, texts = predictor.encode_image(SCENES_PICTURES), predictor.encode_text(["a red circle", "two"])
    assert float((changed - expected).abs().max()) > 1e-2
    merged = predictor.merged()
    assert type(merged) is clip.ClipPredictor and type(merged.module) is clip.Clip
    for again in (merged, load(export(predictor, tmp_path / "exported"))):
        torch.testing.assert_close(again.encode_image(SCENES_PICTURES), changed, rtol=0, atol=1e-5)
        torch.testing.assert_close(again.encode_text(["a red circle", "two"]), texts, rtol=0, atol=1e-5)


def test_what_cannot_be_merged_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only lora can be merged"):
        export(task_of("coop").predictor(), tmp_path / "exported")


def test_vectors_of_pictures_are_computed_once_and_are_those_of_the_base() -> None:
    task = randomised(task_of("clip_adapter"))
    batch, calls = batch_of(task), list[int]()
    expected = task.model.image_vectors(batch.pixels_BCHW)
    task.model.base.vision.register_forward_hook(lambda *_: calls.append(1))
    first, second = task.image_vectors(batch), task.image_vectors(replace(batch, keys=batch.keys[::-1]))
    torch.testing.assert_close(first, expected.detach(), rtol=0, atol=1e-12)
    assert torch.equal(second, first.flip(0)) and len(calls) == 1


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("method", ALL)
def test_a_folder_holds_the_base_and_the_adapter(method: str, family: str, tmp_path: Path) -> None:
    predictor = randomised(task_of(method, base_of(family))).float().eval().predictor()
    write_model(predictor, tmp_path)
    again = read_model(tmp_path)
    texts = list(NAMES)
    assert torch.equal(again.score(SCENES_PICTURES, texts), predictor.score(SCENES_PICTURES, texts))
    assert type(again) is type(predictor) and again.name == predictor.name


def test_contexts_of_classes_know_no_other_text() -> None:
    task = task_of("coop", context=ContextConfig(4, class_specific=True))
    assert sum(p.numel() for p in task.parameters() if p.requires_grad) == CLASSES * 4 * WIDTH
    predictor = task.predictor()
    together: Tensor = predictor.encode_text(NAMES)
    torch.testing.assert_close(predictor.encode_text(NAMES[::-1]), together.flip(0), rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="'a dog' is none of them"):
        predictor.encode_text(["a dog"])


def test_other_bases_are_refused_by_name() -> None:
    locked = locked_clip.tiny_tasks(SAMPLES)["locked"].predictor()
    with pytest.raises(ConfigError, match="locked_clip is a LockedClip"):
        adaptable(locked)
    with pytest.raises(ConfigError, match="70 context vectors leave no room"):
        task_of("coop", context=ContextConfig(70))


@pytest.mark.parametrize("method", ["vpt_shallow", "vpt_deep", "lora"])
def test_an_image_tower_that_is_no_vision_transformer_is_refused_by_name(method: Method) -> None:
    base = base_of()
    base.module.vision = torch.nn.Identity()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=f"{method} needs a vision transformer, and .* is a Identity"):
        task_of(method, base)
