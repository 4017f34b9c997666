"""CLIP-rocket: its loss written out, CLIP to the bit without strong views, and the interpolation at inference."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from augmented_toys import PLAIN, SAMPLES, SETTINGS, TOKENIZER, batch_of, gradients
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.folder import read_model, write_model
from diptych.core.errors import ConfigError
from diptych.core.losses import total
from diptych.core.sample import Sample
from diptych.core.seeding import seed_everything
from diptych.data.batches.augmented_pairs import Augmentation, AugmentedBatch, AugmentedProcessor
from diptych.data.batches.image_text import (
    ImageTextProcessor,
)
from diptych.data.words.text_augment import TextAugmentation
from diptych.layers.projector import Projector
from diptych.models.contrastive import clip
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.models.contrastive.clip import ClipTask
from diptych.models.contrastive.clip_rocket import ClipRocketTask, Config

TINY = Config.tiny(TOKENIZER.vocab_size, image_size=32)
IMAGES, TEXTS = [sample.image for sample in SAMPLES], [sample.texts[0] for sample in SAMPLES]


def task_of(config: Config = TINY, options: PairOptions | None = None) -> ClipRocketTask:
    seed_everything("rocket")
    augmentation = Augmentation(config.views, text=TextAugmentation())
    return ClipRocketTask(config, AugmentedProcessor(SETTINGS, TOKENIZER, augmentation), options)


def randomised(task: ClipRocketTask) -> ClipRocketTask:
    """Every parameter moved, running statistics too: ones and zeros hide missing wiring."""
    seed_everything("moved")
    with torch.no_grad():
        for tensor in (*task.parameters(), *task.buffers()):
            if tensor.is_floating_point() and tensor.ndim:
                tensor.add_(0.1 * torch.rand_like(tensor))
    return task


def test_without_strong_views_it_is_clip_to_the_bit() -> None:
    """The same draws of the weights, the same parameters, loss, gradients and encodings."""
    task = task_of(replace(TINY, views=0))
    seed_everything("rocket")
    plain = ClipTask(PLAIN, ImageTextProcessor(SETTINGS, TOKENIZER))
    mine, theirs = task.losses(batch_of(task.processor)), plain.losses(batch_of(plain.processor))
    assert mine.keys() == theirs.keys() and torch.equal(total(mine), total(theirs))
    total(mine).backward()
    total(theirs).backward()
    found, wanted = gradients(task), gradients(plain)
    assert found.keys() == wanted.keys() == dict(task.named_parameters()).keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())
    assert torch.equal(task.predictor().encode_image(IMAGES), plain.predictor().encode_image(IMAGES))
    assert task.predictor().describe() == plain.predictor().describe() and task.summary() == plain.summary()


def test_with_strong_views_the_shared_weights_are_drawn_alike() -> None:
    with_views, without = task_of().state_dict(), task_of(replace(TINY, views=0)).state_dict()
    assert without.keys() < with_views.keys()
    assert all(torch.equal(with_views[name], tensor) for name, tensor in without.items())


def head_by_hand(projector: Projector, rows: Tensor) -> Tensor:
    linear_1, norm_1, _, linear_2, norm_2, _, linear_3 = projector.layers
    for linear, norm in ((linear_1, norm_1), (linear_2, norm_2)):
        rows = linear(rows)
        rows = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
        rows = rows.relu()
    return F.normalize(linear_3(rows), dim=-1)


def by_hand(task: ClipRocketTask, batch: AugmentedBatch, views: int, sides: str) -> Tensor:
    """The released code's sum, from pixels and tokens on, image side and text side apart."""
    model, target = task.model, torch.arange(len(batch.keys))
    image, text = model(batch.pixels_BCHW, batch.tokens_BT, batch.lengths_B)
    weak = model.log_scale.exp() * image @ text.T
    images = [
        head_by_hand(task.strong.image, model.vision(model.normalise(batch.strong_BVCHW[:, view])))
        for view in range(views)
    ]
    texts = [head_by_hand(task.strong.text, model.text(*rows)) for rows in batch.strong_texts]
    of_side = []
    for side in range(2):
        g = F.cross_entropy(weak if side == 0 else weak.T, target)
        crossed = [task.strong.log_scale.exp() * i @ t.T for i, t in product(images, texts)]
        crossed = [logits if side == 0 else logits.T for logits in crossed]
        l_ = sum(F.cross_entropy(one, target, label_smoothing=0.1) for one in crossed) / len(crossed)
        of_side.append((g + views * l_) / (1 + views))
    return (of_side[0] + of_side[1]) / 2 * (2 if sides == "sum" else 1)


@pytest.mark.parametrize(("views", "sides"), [(1, "mean"), (2, "mean"), (3, "sum")])
def test_the_loss_is_the_released_one_with_every_parameter_randomised(views: int, sides: str) -> None:
    task = randomised(task_of(replace(TINY, views=views, sides=sides)).double())
    batch = batch_of(task.processor)
    found, wanted = total(task.losses(batch)), by_hand(task, batch, views, sides)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    names, parameters = zip(*task.named_parameters(), strict=True)
    for name, ours, theirs in zip(
        names, torch.autograd.grad(found, parameters), torch.autograd.grad(wanted, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9, msg=name)


def test_strong_pairs_and_weak_pairs_do_not_touch_each_others_term() -> None:
    task = task_of()
    batch = batch_of(task.processor)
    before = {name: part.value for name, part in task.losses(batch).items()}
    assert before.keys() == {"contrastive", "strong"}
    first, second = batch.strong_texts
    other_texts = (first._replace(tokens_BT=first.tokens_BT.flip(0)), second)
    changes = (
        (replace(batch, strong_BVCHW=255 - batch.strong_BVCHW), "contrastive", "strong"),
        (replace(batch, strong_texts=other_texts), "contrastive", "strong"),
        (replace(batch, tokens_BT=batch.tokens_BT.flip(0), lengths_B=batch.lengths_B.flip(0)), "strong", "contrastive"),
        (replace(batch, pixels_BCHW=255 - batch.pixels_BCHW), "strong", "contrastive"),
    )
    for changed, same, moved in changes:
        after = {name: part.value for name, part in task.losses(changed).items()}
        assert torch.equal(after[same], before[same]) and not torch.equal(after[moved], before[moved])


def test_each_term_has_heads_and_a_scale_of_its_own() -> None:
    for term, touched, not_touched in (("strong", "strong.", "head"), ("contrastive", "head", "strong.")):
        task = task_of()
        task.losses(batch_of(task.processor))[term].value.backward()
        names = gradients(task).keys()
        assert any(touched in name for name in names) and not any(not_touched in name for name in names)
        assert ("model.log_scale" in names) == (term == "contrastive")
        assert ("strong.log_scale" in names) == (term == "strong")


def weak_and_strong(task: ClipRocketTask) -> tuple[Tensor, Tensor]:
    """Similarities [N, N] of either pair of heads, in evaluation mode."""
    model, processor = task.model, task.processor
    with torch.no_grad():
        images, rows = model.vision(model.normalise(processor.pixels(IMAGES))), processor.tokens(TEXTS)
        texts = model.text(*rows)
        sides = (
            (model.image_head(images), model.text_head(texts)),
            (task.strong.image(images), task.strong.text(texts)),
        )
        weak, strong = (F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T for image, text in sides)
    return weak, strong


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_score_interpolates_the_similarities_of_both_pairs_of_heads(share: float) -> None:
    task = randomised(task_of(replace(TINY, weak_share=share))).eval()
    predictor = task.predictor()
    weak, strong = weak_and_strong(task)
    torch.testing.assert_close(
        predictor.score(IMAGES, TEXTS), share * weak + (1 - share) * strong, rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(weak, strong, atol=1e-2)
    encoded = predictor.encode_image(IMAGES)
    torch.testing.assert_close(encoded.norm(dim=-1), torch.ones(6))
    assert encoded.shape == (6, 2 * TINY.width) and predictor.how("score") == "cosine of encodings"


def test_the_weak_heads_alone_encode_as_the_clip_inside_does() -> None:
    task = task_of(replace(TINY, weak_share=1.0)).eval()
    plain = clip.ClipPredictor(PLAIN, task.processor, task.model, "clip")
    for verb, items in (("encode_image", IMAGES), ("encode_text", TEXTS)):
        found = getattr(task.predictor(), verb)(items)
        assert torch.equal(found[:, : TINY.width], getattr(plain, verb)(items)) and not found[:, TINY.width :].any()


def test_the_predictor_shares_the_weights_and_comes_back_from_a_folder(tmp_path: Path) -> None:
    task = task_of(replace(TINY, weak_share=0.25)).train()
    task.losses(batch_of(task.processor))  # moves the running statistics
    task.eval()
    predictor = task.predictor()
    assert {p.data_ptr() for p in predictor.module.parameters()} == {p.data_ptr() for p in task.parameters()}
    write_model(predictor, tmp_path)
    again = read_model(tmp_path)
    assert torch.equal(again.score(IMAGES, TEXTS), predictor.score(IMAGES, TEXTS))
    assert again.module.weak_share == 0.25 and again.name == "clip_rocket"


def test_both_scales_start_as_published_and_are_clamped() -> None:
    task = task_of()
    assert task.summary() == {"scale": pytest.approx(1 / 0.07), "strong_scale": pytest.approx(10.0)}
    with torch.no_grad():
        task.model.log_scale.fill_(7.0)
        task.strong.log_scale.fill_(-1.0)
    task.after_step()
    assert task.summary() == {"scale": pytest.approx(100.0), "strong_scale": 1.0}


def test_one_caption_for_all_pictures_is_a_finite_loss_and_a_batch_of_one_is_refused() -> None:
    samples = [Sample(sample.key, sample.visuals, ("a",)) for sample in SAMPLES]
    task = task_of()
    losses = task.losses(batch_of(task.processor, samples))
    total(losses).backward()
    assert float(losses["contrastive"].value.detach()) >= math.log(6) - 1e-4
    assert all(bool(grad.isfinite().all()) for grad in gradients(task).values())
    with pytest.raises(ConfigError, match="a batch of one"):
        task.losses(batch_of(task.processor, SAMPLES[:1]))


def test_views_and_texts_that_do_not_fit_are_refused() -> None:
    for augmentation, said in (
        (Augmentation(3, text=TextAugmentation()), "takes 2 strong views, the processor makes 3"),
        (Augmentation(2), "no strong texts: give augmentation.text"),
    ):
        with pytest.raises(ConfigError, match=said):
            ClipRocketTask(TINY, AugmentedProcessor(SETTINGS, TOKENIZER, augmentation))
    for change, said in (
        ({"views": -1}, "views -1"),
        ({"weak_share": 1.5}, "weak_share 1.5"),
        ({"smoothing": -0.1}, "sm"),
    ):
        with pytest.raises(ConfigError, match=said):
            replace(TINY, **change)


def test_patches_are_masked_in_strong_views_too_each_view_by_its_own_draw() -> None:
    """With one patch of sixteen left, a view says the same of two pictures that agree there."""
    task = task_of(options=PairOptions(Masking(image=0.9)))
    batch = batch_of(task.processor)
    kept = [task.kept_patches(batch, f"patches of strong view {view}") for view in range(2)]
    assert kept[0].shape == (6, 1) and not torch.equal(kept[0], kept[1])
    vectors = task.features(batch).features["strong_image"]
    for view in range(2):
        pixels = task.model.normalise(batch.strong_BVCHW[:, view])
        torch.testing.assert_close(vectors[:, view], task.model.vision(pixels, kept[view]))


def test_published_sizes() -> None:
    config = Config.vit_b16()
    assert isinstance(config, Config) and config.vision == clip.Config.vit_b16().vision
    assert (config.views, config.strong_hidden, config.smoothing, config.sides) == (2, 4096, 0.1, "mean")
