"""Frozen: a language model that never changes, prefixes anywhere among words, prompts of several pictures."""

from __future__ import annotations

import pytest
import torch

from diptych.core.errors import DiptychError
from diptych.core.sampling import TextSampling
from diptych.data.derived.without import WithoutTurns
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.weight_hash import weight_hash
from diptych.models.pretrained_backbone import frozen

SOURCE = WithoutTurns(Scenes("train", 8, SceneConfig(32, 1, words=0.0)))
IMAGES = [SOURCE[index].image for index in range(3)]
SLOTS = 4


def tiny() -> frozen.FrozenTask:
    torch.manual_seed(0)
    return frozen.tiny_tasks([SOURCE[index] for index in range(8)])["frozen"]


def test_gradients_go_through_a_language_model_of_which_no_weight_moves() -> None:
    task = tiny().train()
    language, tower = task.model.language, task.model.tower
    before, was = weight_hash(language), weight_hash(tower)
    trained = [p for group in task.trainable()["main"] for p in group.parameters.values()]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    batch = next(iter(EvaluationBatches(SOURCE, task.processor, 8, 1, 0.0)))
    seen = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = task.losses(batch)["answers"]
        loss.sum.backward()
        assert all(p.grad is None for p in language.parameters())
        assert all(float(p.grad.abs().sum()) > 0 for p in (*tower.parameters(), *task.model.connector.parameters()))
        optimizer.step()
        seen.append(float(loss.sum.detach()))
    assert weight_hash(language) == before and weight_hash(tower) != was
    assert seen[-1] < seen[0] and not language.training


def test_a_prompt_is_its_pictures_and_texts_as_they_follow_without_names() -> None:
    model = tiny().predictor()
    read = model._opened([IMAGES[0], "a red circle", IMAGES[1], "a blue ring", IMAGES[2]])
    assert sum(read.places) == 3 * SLOTS and read.places[:SLOTS] == [True] * SLOTS == read.places[-SLOTS:]
    words = model.processor.tokenizer
    said = words.decode([token for token, shown in zip(read.tokens, read.places, strict=True) if not shown])
    assert said.split() == ["a", "red", "circle", "a", "blue", "ring"]
    with pytest.raises(DiptychError, match="5 pictures, and at most 4 fit"):
        model.generate_text([[IMAGES[0]] * 5])


def test_a_picture_is_seen_by_what_stands_behind_it_alone() -> None:
    model = tiny().predictor()
    read = [model._opened(["a red", IMAGES[0], "circle and", IMAGES[1], "a ring"])]

    def states(pictures: list[object]) -> torch.Tensor:
        (row,) = model._vectors(read, pictures)
        return model.module.language(row[None], torch.tensor([len(row)]))[0]

    with torch.inference_mode():
        changed = (states([IMAGES[0], IMAGES[1]]) - states([IMAGES[0], IMAGES[2]])).abs().amax(1) > 1e-6
    second = len(read[0].places) - read[0].places[::-1].index(True) - SLOTS
    assert not changed[:second].any() and changed[second:].all()


def test_greedy_texts_of_few_shot_prompts_are_those_of_a_pass_without_a_cache() -> None:
    model = tiny().predictor()
    prompts = [[IMAGES[0], "a red circle", IMAGES[1]], [IMAGES[2]], ["a", IMAGES[1], "or", IMAGES[0], "is"]]
    found = model.generate_text(prompts, TextSampling(6))
    words, module = model.processor.tokenizer, model.module
    for prompt, said in zip(prompts, found, strict=True):
        (row,) = model._vectors([model._opened(prompt)], [part for part in prompt if not isinstance(part, str)])
        ids: list[int] = []
        for _ in range(6):
            with torch.inference_mode():
                token = int(module.logits(module.language(row[None], torch.tensor([len(row)])))[0, -1].argmax())
                row = torch.cat([row, module.language.embed(torch.tensor([[token]]))[0]])
            if token == words.end_id:
                break
            ids.append(token)
        assert said == words.decode(ids).strip()
