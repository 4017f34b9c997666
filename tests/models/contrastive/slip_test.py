"""SLIP: its loss written out, CLIP to the bit without its term, and whom the strong views touch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from augmented_toys import PLAIN, SAMPLES, SETTINGS, TOKENIZER, batch_of, gradients
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.core.losses import total
from diptych.core.sample import Sample
from diptych.core.seeding import seed_everything
from diptych.data.batches.augmented_pairs import Augmentation, AugmentedBatch, AugmentedProcessor
from diptych.data.batches.image_text import (
    ImageTextProcessor,
)
from diptych.models.contrastive import clip
from diptych.models.contrastive.clip import ClipTask
from diptych.models.contrastive.slip import Config, SlipTask

TINY = Config.tiny(TOKENIZER.vocab_size, image_size=32)


def task_of(config: Config = TINY, views: int = 2) -> SlipTask:
    seed_everything("slip")
    return SlipTask(config, AugmentedProcessor(SETTINGS, TOKENIZER, Augmentation(views)))


@pytest.mark.parametrize("views", [0, 2])
def test_without_its_term_it_is_clip_to_the_bit(views: int) -> None:
    """The same draws of the weights, the same parameters, the same loss and the same gradients."""
    task = task_of(replace(TINY, ssl_scale=0.0), views)
    seed_everything("slip")
    plain = ClipTask(PLAIN, ImageTextProcessor(SETTINGS, TOKENIZER))
    mine, theirs = task.losses(batch_of(task.processor)), plain.losses(batch_of(plain.processor))
    assert mine.keys() == theirs.keys() and torch.equal(total(mine), total(theirs))
    total(mine).backward()
    total(theirs).backward()
    found, wanted = gradients(task), gradients(plain)
    assert found.keys() == wanted.keys() == dict(task.named_parameters()).keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())


def test_with_its_term_the_shared_weights_are_drawn_alike() -> None:
    with_term, without = task_of().state_dict(), task_of(replace(TINY, ssl_scale=0.0)).state_dict()
    assert without.keys() < with_term.keys()
    assert all(torch.equal(with_term[name], tensor) for name, tensor in without.items())


def by_hand(task: SlipTask, batch: AugmentedBatch) -> Tensor:
    """The released code's sum, from pixels on: cross entropies with labels, a head of layers taken apart."""
    model, (linear_1, norm_1, _, linear_2, norm_2, _, linear_3) = task.model, task.projector.layers

    def head(rows: Tensor) -> Tensor:
        for linear, norm in ((linear_1, norm_1), (linear_2, norm_2)):
            rows = linear(rows)
            rows = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
            rows = rows.relu()
        return F.normalize(linear_3(rows), dim=-1)

    target = torch.arange(len(batch.keys))
    image, text = model(batch.pixels_BCHW, batch.tokens_BT, batch.lengths_B)
    logits = model.log_scale.exp() * image @ text.T
    of_clip = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    a, b = (head(model.vision(model.normalise(batch.strong_BVCHW[:, view]))) for view in range(2))
    itself = torch.eye(len(a)) * 1e9
    logits_a = torch.cat([a @ b.T, a @ a.T - itself], dim=1) / 0.1
    logits_b = torch.cat([b @ a.T, b @ b.T - itself], dim=1) / 0.1
    of_simclr = (F.cross_entropy(logits_a, target) + F.cross_entropy(logits_b, target)) / 2
    return of_clip + task.config.ssl_scale * of_simclr


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_loss_is_clips_and_simclrs_with_every_parameter_randomised(scale: float) -> None:
    task = task_of(replace(TINY, ssl_scale=scale)).double()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = batch_of(task.processor)
    found, wanted = total(task.losses(batch)), by_hand(task, batch)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    names, parameters = zip(*task.named_parameters(), strict=True)
    for name, ours, theirs in zip(
        names, torch.autograd.grad(found, parameters), torch.autograd.grad(wanted, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9, msg=name)


def test_pictures_of_one_caption_can_be_positives_of_one_another() -> None:
    """StableRep's loss written out; with captions that are all different it is SimCLR's."""
    task = task_of(replace(TINY, positives="caption"))
    plain = task_of()
    plain.load_state_dict(task.state_dict())
    same = ("a", "b", "a", "c", "a", "c")
    for said, equal in (("abcdef", True), (same, False)):
        samples = [Sample(s.key, s.visuals, (text,)) for s, text in zip(SAMPLES, said, strict=True)]
        batch = batch_of(task.processor, samples)
        found, simclr = (one.losses(batch)["simclr"].value for one in (task, plain))
        assert torch.allclose(found, simclr, atol=1e-5) == equal
        vectors = task.features(batch).features["strong"]
        views = F.normalize(torch.cat([task.projector(vectors[:, view]) for view in range(2)]), dim=-1)
        logits = (views @ views.T / 0.1).fill_diagonal_(-torch.inf).log_softmax(1)
        belongs = torch.tensor([[a == b for b in [*said, *said]] for a in [*said, *said]]).fill_diagonal_(False)
        wanted = -torch.stack([row[mask].mean() for row, mask in zip(logits, belongs, strict=True)]).mean()
        torch.testing.assert_close(found, wanted)


def test_strong_views_reach_the_simclr_term_alone_and_the_caption_never_does() -> None:
    task = task_of()
    batch = batch_of(task.processor)
    before = {name: part.value for name, part in task.losses(batch).items()}
    other_views = replace(batch, strong_BVCHW=255 - batch.strong_BVCHW)
    other_texts = replace(batch, tokens_BT=batch.tokens_BT.flip(0), lengths_B=batch.lengths_B.flip(0))
    for changed, same, moved in ((other_views, "contrastive", "simclr"), (other_texts, "simclr", "contrastive")):
        after = {name: part.value for name, part in task.losses(changed).items()}
        assert torch.equal(after[same], before[same]) and not torch.equal(after[moved], before[moved])


def test_the_image_tower_learns_from_both_terms_and_the_text_tower_from_one() -> None:
    task = task_of()
    parts = task.losses(batch_of(task.processor))
    parts["simclr"].value.backward()
    touched = {name.split(".")[1] for name in gradients(task) if name.startswith("model.")}
    assert touched == {"vision"}


def test_what_is_saved_is_a_clip() -> None:
    task = task_of()
    predictor = task.predictor()
    assert isinstance(predictor, clip.ClipPredictor) and predictor.module is task.model and predictor.name == "slip"
    plain = ClipTask(PLAIN, ImageTextProcessor(SETTINGS, TOKENIZER)).predictor()
    assert predictor.module.state_dict().keys() == plain.module.state_dict().keys()
    assert predictor.describe() == plain.describe()


def test_one_caption_for_all_pictures_is_a_finite_loss() -> None:
    samples = [Sample(sample.key, sample.visuals, ("a red circle",)) for sample in SAMPLES]
    task = task_of()
    loss = total(task.losses(batch_of(task.processor, samples)))
    loss.backward()
    assert bool(loss.isfinite()) and all(bool(grad.isfinite().all()) for grad in gradients(task).values())


def test_a_batch_of_one_is_refused_in_training() -> None:
    task = task_of()
    with pytest.raises(ConfigError, match="a batch of one"):
        task.losses(batch_of(task.processor, SAMPLES[:1]))


@pytest.mark.parametrize("views", [0, 1, 3])
def test_simclr_needs_two_views(views: int) -> None:
    with pytest.raises(ConfigError, match=f"compares two strong views of a picture, the processor makes {views}"):
        task_of(views=views)


@pytest.mark.parametrize(
    ("change", "said"), [({"ssl_scale": -1.0}, "ssl_scale -1.0"), ({"ssl_temperature": 0.0}, "ssl_temperature")]
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(TINY, **change)


def test_published_sizes() -> None:
    config = Config.vit_b16()
    assert isinstance(config, Config) and config.vision == clip.Config.vit_b16().vision
    assert (config.ssl_hidden, config.ssl_width, config.ssl_temperature, config.ssl_scale) == (4096, 256, 0.1, 1.0)
