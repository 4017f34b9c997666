"""VisualBERT: who sees whom, and what is asked of which pair."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from contract import eight_samples
from random_visualbert import batch_of, task_of
from torch import Tensor
from torch.nn import functional as F

from diptych.core.losses import IGNORED, total
from diptych.data.words.word_masking import mask_words
from diptych.models.early_fusion import visualbert
from diptych.models.early_fusion._visualbert_module import Seen, asked_places, box_geometry

T, R = 7, 5


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
