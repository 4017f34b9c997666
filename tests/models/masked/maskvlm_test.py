"""MaskVLM: who sees what, what is hidden from whom, and the four losses in closed form.

There is no other implementation to compare with, so each part of the mechanism is tested by itself.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from maskvlm_toys import ASKED, batch_of, random_task, scenes, with_pixels, with_text
from torch import Tensor
from torch.nn import functional as F

from diptych.core.losses import total
from diptych.data.batches.image_text import ImageTextBatch
from diptych.layers.pixel_patches import patchify
from diptych.models.masked.maskvlm import MaskVlmOptions, MaskVlmTask, Weights, tiny_tasks

MIM, MLM = Weights(0, 0, 0, 1), Weights(0, 0, 1, 0)


def only(weights: Weights, text_free: bool = False) -> MaskVlmTask:
    return random_task(replace(ASKED, weights=weights), text_free=text_free)


def hidden_pixels(task: MaskVlmTask, batch: ImageTextBatch) -> Tensor:
    """[B, H, W], from the patches of 8 pixels that the task hides."""
    return task.hidden_patches(batch).view(-1, 4, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)


def predicted_patches(task: MaskVlmTask, batch: ImageTextBatch) -> Tensor:
    """Pixels [B, P, X] that the model predicts of every patch, hidden or not."""
    model, hidden_BP = task.model, task.hidden_patches(batch)
    states_BTD = model.vision.tokens(model.covered(batch.pixels_BCHW, hidden_BP))
    text_BTD = model.text.tokens(batch.tokens_BT, batch.lengths_B)
    return model.predicted_pixels(states_BTD, text_BTD, batch.lengths_B)


# What is hidden leaks nowhere.


def test_hidden_pixels_are_seen_by_nothing_that_predicts_them() -> None:
    task = only(MIM)
    batch = batch_of(task)
    hidden_BHW = hidden_pixels(task, batch)
    assert hidden_BHW.float().mean() == 10 / 16
    before = predicted_patches(task, batch)
    assert torch.equal(predicted_patches(task, with_pixels(batch, hidden_BHW)), before)
    moved = (predicted_patches(task, with_pixels(batch, ~hidden_BHW)) - before).abs().amax((1, 2))
    assert bool((moved > 1e-3).all())


def test_hidden_pixels_are_the_mean_colour_before_the_image_encoder() -> None:
    task = only(MIM)
    batch = batch_of(task)
    covered_BCHW = task.model.covered(batch.pixels_BCHW, task.hidden_patches(batch))
    hidden_BCHW = hidden_pixels(task, batch)[:, None].expand_as(covered_BCHW)
    assert bool((covered_BCHW[hidden_BCHW] == 0).all())
    assert torch.equal(covered_BCHW[~hidden_BCHW], batch.pixels_BCHW[~hidden_BCHW])
    mean = torch.tensor(task.processor.config.image.mean) * 255
    of_mean = task.model.normalise(mean.round().to(torch.uint8)[None, :, None, None])
    assert float(of_mean.abs().max()) < 0.02  # within the rounding of a level


def test_masked_words_are_seen_by_nothing_that_predicts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    task = only(MLM)
    batch, tokenizer = batch_of(task), task.processor.tokenizer
    words = task.masked_words(batch)
    row, place = (words.tokens_BT == tokenizer.mask_id).nonzero()[0].tolist()
    other = with_text(batch, row, place, 100 if int(batch.tokens_BT[row, place]) != 100 else 101)
    assert torch.equal(task.masked_words(other).tokens_BT, words.tokens_BT)
    model = task.model

    def logits(some: ImageTextBatch) -> Tensor:
        text_BTD = model.text.tokens(task.masked_words(some).tokens_BT, some.lengths_B)
        return model.word_logits(model.fusion.words(text_BTD, some.lengths_B, model.vision.tokens(some.pixels_BCHW)))

    assert torch.equal(logits(other), logits(batch))
    assert float(task.losses(other)["mlm"].sum.detach()) != float(
        task.losses(batch)["mlm"].sum.detach()
    )  # the label did change


# Both directions reach across.


def gradients_of(task: MaskVlmTask, name: str) -> tuple[Tensor, Tensor]:
    """Of one loss for the pixels [B], and for the embeddings of words."""
    batch = batch_of(task)
    batch.pixels_BCHW.requires_grad_()
    part = task.losses(batch)[name]
    of_pixels, of_words = torch.autograd.grad(part.sum, [batch.pixels_BCHW, task.model.text.embedding.weight])
    return of_pixels.abs().amax((1, 2, 3)), of_words.abs().amax(1)


def test_patches_are_reconstructed_from_the_text_and_from_what_is_seen() -> None:
    task = only(MIM)
    of_pixels_B, of_words_V = gradients_of(task, "mim")
    assert bool((of_pixels_B > 1e-6).all())
    used = batch_of(task).tokens_BT.unique()
    assert float(of_words_V[used].max()) > 1e-5


def test_words_are_predicted_from_the_picture_and_from_other_words() -> None:
    task = only(MLM)
    of_pixels_B, of_words_V = gradients_of(task, "mlm")
    assert bool((of_pixels_B > 1e-7).all()) and float(of_words_V.max()) > 1e-5


def test_the_hidden_patches_get_no_gradient_as_input() -> None:
    task = only(MIM)
    batch = batch_of(task)
    batch.pixels_BCHW.requires_grad_()
    (of_pixels,) = torch.autograd.grad(predicted_patches(task, batch).sin().sum(), batch.pixels_BCHW)
    hidden_BCHW = hidden_pixels(task, batch)[:, None].expand_as(of_pixels)
    assert bool((of_pixels[hidden_BCHW] == 0).all()) and bool((of_pixels[~hidden_BCHW] != 0).any())


def test_without_text_patches_do_not_depend_on_it() -> None:
    task = only(MIM, text_free=True)
    batch = batch_of(task)
    before = task.losses(batch)["mim"]
    other = replace(batch, tokens_BT=batch.tokens_BT.roll(1, 0), lengths_B=batch.lengths_B.roll(1, 0))
    after = task.losses(other)["mim"]
    torch.testing.assert_close(after.sum, before.sum, rtol=1e-12, atol=0)
    with_caption = only(MIM)
    moved = with_caption.losses(other)["mim"].sum - with_caption.losses(batch)["mim"].sum
    assert float(moved.detach().abs()) > 1e-3
    empty = task.processor.tokens([""] * batch.num_samples)
    told = with_caption.losses(replace(batch, tokens_BT=empty[0], lengths_B=empty[1]))["mim"]
    torch.testing.assert_close(told.sum, before.sum, rtol=1e-10, atol=0)


def test_who_was_trained_without_text_is_asked_without() -> None:
    images = [sample.image for sample in scenes()]
    hidden_NRC = torch.ones(6, 4, 4, dtype=torch.bool).triu(1)
    for text_free in (True, False):
        predictor = random_task(text_free=text_free).float().eval().predictor()
        red, blue = (predictor.fill_image(images, [text] * 6, hidden_NRC) for text in ("red", "a blue circle"))
        same = all(np.array_equal(one.pixels_HWC, other.pixels_HWC) for one, other in zip(red, blue, strict=True))
        assert same is text_free


# Who sees whom: each by changing one position.


def test_encoders_see_their_own_side_alone_and_all_of_it() -> None:
    task = random_task()
    batch, model = batch_of(task), task.model
    image_BTD, text_BTD = model.vision.tokens(batch.pixels_BCHW), model.text.tokens(batch.tokens_BT, batch.lengths_B)
    last = torch.zeros(6, 32, 32, dtype=torch.bool)
    last[:, 24:, 24:] = True
    moved = (model.vision.tokens(with_pixels(batch, last).pixels_BCHW) - image_BTD).abs().amax(-1)
    assert bool((moved > 1e-6).all())
    length = int(batch.lengths_B[3])
    changed = with_text(batch, 3, length - 2, 77)
    found = (model.text.tokens(changed.tokens_BT, changed.lengths_B) - text_BTD).abs().amax(-1)
    assert bool((found[3, :length] > 1e-6).all()), "a word sees what comes after it"
    assert float(found[[0, 1, 2, 4, 5]].detach().max()) == 0


def test_cross_encoders_see_both_sides() -> None:
    task = random_task()
    batch, model = batch_of(task), task.model
    image_BTD, text_BTD = model.vision.tokens(batch.pixels_BCHW), model.text.tokens(batch.tokens_BT, batch.lengths_B)
    length = int(batch.lengths_B[3])
    noise = torch.randn(2, 6, image_BTD.shape[-1], dtype=torch.float64)
    other_image, other_text = image_BTD.clone(), text_BTD.clone()
    other_image[:, -1], other_text[3, length - 1] = noise[0], noise[1, 3]
    pictures = [
        model.fusion.picture(i, t, batch.lengths_B)
        for i, t in ((image_BTD, text_BTD), (other_image, text_BTD), (image_BTD, other_text))
    ]
    words = [
        model.fusion.words(t, batch.lengths_B, i)
        for i, t in ((image_BTD, text_BTD), (other_image, text_BTD), (image_BTD, other_text))
    ]
    for found in (pictures, [states[:, :length] for states in words]):
        for changed in found[1:]:
            assert bool(((changed[3] - found[0][3]).abs().amax(-1) > 1e-7).all())


def test_padding_is_invisible_whatever_stands_there() -> None:
    task = random_task()
    batch = batch_of(task)
    inside_BT = torch.arange(batch.tokens_BT.shape[1]) < batch.lengths_B[:, None]
    filled = replace(batch, tokens_BT=torch.where(inside_BT, batch.tokens_BT, 42))
    longer = replace(batch, tokens_BT=F.pad(batch.tokens_BT, (0, 9), value=task.processor.tokenizer.pad_id))
    wanted = task.losses(batch)
    for other in (filled, longer):
        for name, part in task.losses(other).items():
            torch.testing.assert_close(part.sum, wanted[name].sum, rtol=1e-9, atol=1e-10, msg=name)
            assert part.count == wanted[name].count


def test_what_is_hidden_is_a_function_of_each_samples_seed() -> None:
    task = random_task()
    whole = batch_of(task)
    parts = [batch_of(task, [sample]) for sample in scenes()]
    together = torch.cat([task.hidden_patches(part) for part in parts])
    assert torch.equal(together, task.hidden_patches(whole))
    assert together.sum(1).tolist() == [task.hidden] * 6 and len({tuple(row) for row in together.tolist()}) == 6
    for row, part in enumerate(parts):
        length = int(part.lengths_B[0])
        assert torch.equal(task.masked_words(part).labels_BT[0], task.masked_words(whole).labels_BT[row, :length])


# The losses.


def test_mim_is_the_mean_distance_of_the_pixels_of_hidden_patches() -> None:
    task = only(MIM)
    batch = batch_of(task)
    part, hidden_BP = task.losses(batch)["mim"], task.hidden_patches(batch)
    found, wanted = predicted_patches(task, batch), patchify(batch.pixels_BCHW, 8)
    distances = [
        float((found[b, p] - wanted[b, p]).detach().abs().mean())
        for b in range(6)
        for p in range(16)
        if hidden_BP[b, p]
    ]
    assert part.count == len(distances) == 60
    assert float(part.value.detach()) == pytest.approx(sum(distances) / 60, rel=1e-10)


def test_mlm_is_the_cross_entropy_of_masked_words_given_the_full_picture() -> None:
    task = only(MLM)
    batch, model = batch_of(task), task.model
    part, words = task.losses(batch)["mlm"], task.masked_words(batch)
    text_BTD = model.text.tokens(words.tokens_BT, batch.lengths_B)
    fused_BTD = model.fusion.words(text_BTD, batch.lengths_B, model.vision.tokens(batch.pixels_BCHW))
    head = model.words
    rows = head.norm(F.gelu(head.dense(fused_BTD)))
    logits_BTV = rows @ model.text.embedding.weight.T + head.bias_V
    loss = F.cross_entropy(logits_BTV.flatten(0, 1), words.labels_BT.flatten(), ignore_index=-100, reduction="sum")
    torch.testing.assert_close(part.sum, loss, rtol=1e-10, atol=0)
    assert part.count == int((words.labels_BT != -100).sum()) >= 6


def test_losses_begin_where_guessing_does() -> None:
    torch.manual_seed(0)
    task = tiny_tasks(scenes())["masked"]
    losses = {name: float(part.value.detach()) for name, part in task.losses(batch_of(task)).items()}
    assert losses["itm"] == pytest.approx(math.log(2), abs=0.1)
    assert losses["mlm"] == pytest.approx(math.log(task.processor.tokenizer.vocab_size), abs=0.3)
    grey = patchify(batch_of(task).pixels_BCHW, 8)[task.hidden_patches(batch_of(task))].abs().mean()
    assert losses["mim"] == pytest.approx(float(grey), rel=0.1)  # of the mean colour everywhere
    assert set(losses) == {"contrastive", "itm", "mlm", "mim"}


def test_a_loss_without_weight_is_not_computed_and_what_it_alone_trains_is_frozen() -> None:
    task = only(Weights(1, 0, 0, 0))
    assert set(task.losses(batch_of(task))) == {"contrastive"} and task.counts(batch_of(task)) == {}
    frozen = {name.split(".")[1] for name, p in task.named_parameters() if not p.requires_grad}
    assert frozen == {"fusion", "decoder", "pixels", "words"}
    full = random_task()
    wanted = full.losses(batch_of(full))["contrastive"]
    torch.testing.assert_close(task.losses(batch_of(task))["contrastive"].sum, wanted.sum, rtol=1e-10, atol=0)
    for weights, names in ((MIM, {"mim"}), (MLM, {"mlm"}), (Weights(0, 1, 0, 0), {"itm"})):
        one = only(weights)
        losses = one.losses(batch_of(one))
        assert set(losses) == names
        torch.testing.assert_close(
            losses[(*names,)[0]].sum, full.losses(batch_of(full))[(*names,)[0]].sum, rtol=1e-9, atol=0
        )
        total(losses).backward()  # type: ignore[no-untyped-call]
        assert not [n for n, p in one.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]


def test_weights_weigh() -> None:
    task = random_task(MaskVlmOptions(Weights(1, 2, 3, 4), image_block=8))
    assert {name: part.weight for name, part in task.losses(batch_of(task)).items()} == {
        "contrastive": 1, "itm": 2, "mlm": 3, "mim": 4,
    }  # fmt: skip
