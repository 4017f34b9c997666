"""MaskVLM's matching loss: hard negatives of the whole batch, by brute force, and what is never a negative."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maskvlm_toys import ASKED, batch_of, random_task, scenes
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.core.task import Features
from diptych.models.masked.maskvlm import MaskVlmOptions, MaskVlmTask, Weights
from diptych.training.backward import backward

ITM = replace(ASKED, weights=Weights(0, 1, 0, 0))


def named(captions: list[str], keys: list[str] | None = None) -> list[Sample]:
    samples = scenes(len(captions))
    keys = keys or [sample.key for sample in samples]
    return [replace(s, key=k, texts=(c,)) for s, c, k in zip(samples, captions, keys, strict=True)]


def rows_of(task: MaskVlmTask, samples: list[Sample]) -> Features:
    return task.features(batch_of(task, samples)).features


def matched(task: MaskVlmTask, rows: Features, picture: int, text: int) -> Tensor:
    """Logits [2] of one pair alone, from states cut to its own length."""
    length = int(rows["lengths"][text])
    states = (rows["image_states"][picture][None], rows["text_states"][text, :length][None])
    return task.model.fusion.matching(*states, torch.tensor([length]))[0]


def test_the_loss_is_that_of_every_pair_by_itself() -> None:
    task = random_task(ITM)
    rows = rows_of(task, scenes())
    texts, pictures, found = task.hard_negatives(rows, 0, 6)
    assert bool(found.all())
    losses = []
    for i in range(6):
        pairs = [(i, i, 1), (i, int(texts[i]), 0), (int(pictures[i]), i, 0)]
        losses += [F.cross_entropy(matched(task, rows, p, t), torch.tensor(label)) for p, t, label in pairs]
    part = task.losses(batch_of(task))["itm"]
    assert part.count == 18
    torch.testing.assert_close(part.sum, torch.stack(losses).sum(), rtol=1e-9, atol=0)


def test_negatives_are_drawn_with_the_softmax_of_similarities_at_the_learned_scale() -> None:
    task = random_task(ITM)
    rows = rows_of(task, scenes())
    draws = 4000
    grid = (torch.arange(draws) + 0.5) / draws
    anchor = 2
    similar_N = task.model.log_scale.exp() * rows["image"][anchor] @ rows["text"].T
    similar_N[anchor] = -torch.inf
    repeated = Features({name: x[anchor].expand(draws, *x.shape[1:]) for name, x in rows.items()})
    everyone = Features({name: torch.cat([x, repeated[name]]) for name, x in rows.items()})
    everyone["draws"] = torch.cat([rows["draws"], grid[:, None].expand(-1, 2)])
    texts, _, _ = task.hard_negatives(everyone, 6, 6 + draws)
    shares = texts.bincount(minlength=6)[:6] / draws
    torch.testing.assert_close(shares, similar_N.softmax(0).detach().float(), rtol=0, atol=1e-3)


def test_draws_are_a_function_of_each_samples_seed() -> None:
    task = random_task(ITM)
    alone = torch.cat([rows_of(task, [sample])["draws"] for sample in scenes()])
    assert torch.equal(alone, rows_of(task, scenes())["draws"]) and len(alone.unique()) == 12


def test_equal_captions_and_the_same_picture_are_never_negatives() -> None:
    task = random_task(ITM)
    samples = named(["red", "red", "blue", "red", "green", "blue"], ["a", "b", "c", "d", "e", "e"])
    rows = rows_of(task, samples)
    allowed = {0: {2, 4, 5}, 1: {2, 4, 5}, 2: {0, 1, 3, 4}, 3: {2, 4, 5}, 4: {0, 1, 2, 3}, 5: {0, 1, 3}}
    seen: dict[int, set[int]] = {i: set() for i in range(6)}
    for uniform in torch.linspace(0, 0.999, 200):
        rows["draws"] = uniform.expand(6, 2)
        texts, pictures, _ = task.hard_negatives(rows, 0, 6)
        for i in range(6):
            seen[i] |= {int(texts[i]), int(pictures[i])}
    assert all(seen[i] <= allowed[i] for i in range(6)) and seen[0] == allowed[0]
    part = task.anchor_losses(rows, 0, 6)["itm"]
    assert part.count == 18


@pytest.mark.parametrize("captions", [["red"], ["red"] * 4], ids=["one pair", "one caption"])
def test_a_batch_without_negatives_has_its_own_pairs_alone(captions: list[str]) -> None:
    task = random_task(ITM)
    samples = named(captions)
    rows = rows_of(task, samples)
    part = task.losses(batch_of(task, samples))["itm"]
    own = [F.cross_entropy(matched(task, rows, i, i), torch.tensor(1)) for i in range(len(captions))]
    assert part.count == len(captions)
    torch.testing.assert_close(part.sum, torch.stack(own).sum(), rtol=1e-9, atol=0)
    part.value.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in task.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) for g in gradients)


def test_a_pair_that_alone_has_no_negative_does_not_count_one() -> None:
    task = random_task(ITM)
    samples = named(["red", "red", "blue"], ["a", "b", "a"])  # the first shares a caption and a picture with the others
    part = task.losses(batch_of(task, samples))["itm"]
    assert part.count == 3 + 2 * 2


def test_runs_of_anchors_add_up_to_all_of_them() -> None:
    task = random_task(ITM)
    rows = rows_of(task, scenes())
    whole = task.anchor_losses(rows, 0, 6)["itm"]
    cuts = [task.anchor_losses(rows, begin, end)["itm"] for begin, end in ((0, 2), (2, 2), (2, 5), (5, 6))]
    assert {part.count for part in cuts} == {whole.count} and float(cuts[1].sum.detach()) == 0.0
    torch.testing.assert_close(sum(part.sum for part in cuts), whole.sum, rtol=1e-10, atol=0)


@pytest.mark.parametrize("size", [6, 4])
def test_recomputed_activations_change_no_gradient(size: int) -> None:
    gradients = []
    for checkpointing in (False, True):
        task = random_task()
        task.checkpoint_activations(checkpointing)
        backward(task, batch_of(task).split(size))
        gradients.append({name: p.grad for name, p in task.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-11, msg=name)


def test_options_that_hide_nothing_or_all_are_refused() -> None:
    for made, sentence in (
        (lambda: MaskVlmOptions(image_ratio=1.0), "something of a picture must stay"),
        (lambda: MaskVlmOptions(text_ratio=0.0), "shares above 0"),
        (lambda: Weights(0, 0, 0, 0), "at least one above 0"),
        (lambda: Weights(itm=-1), "or more each"),
        (lambda: MaskVlmOptions(image_block=12).hidden_count(32, 8), "multiple of the patch size 8 that divides"),
        (lambda: MaskVlmOptions(image_block=24).hidden_count(32, 8), "divides the picture's 32 pixels"),
        (lambda: MaskVlmOptions(image_block=16, image_ratio=0.9).hidden_count(32, 8), "leaves none"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            made()
    assert MaskVlmOptions().hidden_count(224, 16) == 30 * 4  # 60 % of 49 squares of 2 x 2 patches
