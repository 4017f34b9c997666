"""CM3Leon's memory: what stands before a document, in training and in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.core.sampling import ImageSampling
from diptych.data.batches.image_text import ImageTextBatch
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.causal_masking import unmasked
from diptych.models.generative import cm3leon
from diptych.models.generative._memory_training import pictures_and_words
from diptych.models.generative._moved_parts import span_tokens

SOURCE = Scenes("train", 64, SceneConfig(32, 1, words=0.0))
MEMORY, MOST = 24, 2


def task_of(**changes: object) -> cm3leon.Cm3LeonTask:
    """Random weights, and the first scenes remembered."""
    torch.manual_seed(0)
    some = cm3leon.tiny_tasks([SOURCE[index] for index in range(64)])["retrieving"]
    retrieval = replace(some.config.retrieval, documents=MEMORY, rules=replace(some.config.retrieval.rules, below=1.0))
    task = cm3leon.Cm3LeonTask(replace(some.config, retrieval=retrieval, **changes), some.processor)  # type: ignore[arg-type]
    task.remember(EvaluationBatches(SOURCE, task.processor, 10, 1, 0.0))
    return task.eval()


def batch_of(task: cm3leon.Cm3LeonTask) -> ImageTextBatch:
    return next(iter(EvaluationBatches(SOURCE, task.processor, 64, 1, 0.0)))


def test_the_memory_holds_as_many_as_it_has_room_for_as_they_were() -> None:
    task = task_of()
    memory, batch = task.model.memory, batch_of(task)
    assert memory is not None and memory.room == MEMORY and bool((memory.lengths_N > 0).all())
    pictures, texts = pictures_and_words(task.model, batch)
    for place in range(MEMORY):
        held = memory.tokens_NT[place, : int(memory.lengths_N[place])].tolist()
        assert held == [*texts[place], *pictures[place], task.processor.tokenizer.end_id]
    halves = [
        torch.stack([memory.of_texts(batch.tokens_BT[i : i + 1], batch.lengths_B[i : i + 1])[0] for i in range(3)]),
        memory.of_pictures(batch.pixels_BCHW[:3]),
    ]
    mean_BD = (halves[0] + halves[1]) / 2
    torch.testing.assert_close(memory.vectors_ND[:3], mean_BD / mean_BD.norm(dim=1, keepdim=True))


def test_training_documents_stand_behind_others_and_never_behind_themselves() -> None:
    """Taking the found ones off leaves the document that there is without a memory; it is not one of them."""
    task, alone = task_of(drop=0.3), task_of(drop=0.3)
    memory, alone.model.memory = task.model.memory, None
    assert memory is not None
    batch, words = batch_of(task), task.processor.tokenizer
    remembered = [memory.tokens_NT[place, : int(memory.lengths_N[place])].tolist() for place in range(MEMORY)]
    rows, lengths = task.documents(batch)
    plain, ends = alone.documents(batch)
    counts = [0, 0, 0]
    for place in range(64):
        row, own = rows[place, : int(lengths[place])].tolist(), plain[place, : int(ends[place])].tolist()
        assert row[0] == words.start_id and row[len(row) - len(own) + 1 :] == own[1:]
        before, number = row[1 : len(row) - len(own) + 1], 0
        while before:
            (which,) = [i for i, one in enumerate(remembered) if before[: len(one)] == one]
            assert which != place
            before, number = before[len(remembered[which]) :], number + 1
        counts[number] += 1
        kinds = span_tokens(task.model.layout, words)
        assert number == 0 or own[1] != kinds.sentinels[0] or unmasked(own, kinds)[1] != task.model.layout.begin
    assert sum(counts) == 64 and min(counts) >= 8


def test_in_use_documents_are_found_by_what_there_is() -> None:
    task = task_of()
    model, memory = task.predictor(), task.model.memory
    assert memory is not None
    text, image = SOURCE[30].texts[0], SOURCE[30].image
    rows = model.rows([[text], [image], [text, image], [""]])
    for prompt, row in zip(([text], [image], [text, image]), rows, strict=False):
        parts = [memory.of_texts(*model.processor.tokens([text]))] if text in prompt else []
        parts += [memory.of_pictures(model.pixels([image]))] if image in prompt else []
        query_1D = sum(parts[1:], parts[0])
        best = (memory.vectors_ND @ (query_1D / query_1D.norm())[0]).argsort(descending=True)[:MOST].tolist()
        wanted = [memory.tokens_NT[at, : int(memory.lengths_N[at])].tolist() for at in reversed(best)]
        assert row[1:] == [*wanted[0], *wanted[1], *model.tokens_of([prompt])[0]]
    assert rows[3] == [model.processor.tokenizer.start_id]


def test_what_is_found_changes_what_is_written_and_its_likelihood() -> None:
    task = task_of()
    with torch.no_grad():
        for parameter in task.model.trunk.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model, image = task.predictor(), SOURCE[40].image
    with_found = model.image_likelihood(["a red circle", None], [image, image])
    drawn = model.written_codes(["a red circle"], [3], ImageSampling(guidance=1.0)).tolist()
    task.model.memory = None
    alone = model.image_likelihood(["a red circle", None], [image, image])
    assert float(with_found.log_N[0]) != pytest.approx(float(alone.log_N[0]))
    assert float(with_found.log_N[1]) == pytest.approx(float(alone.log_N[1]), rel=1e-5)  # untold, nothing is found
    assert drawn != model.written_codes(["a red circle"], [3], ImageSampling(guidance=1.0)).tolist()


def test_the_memory_is_saved_and_loaded_with_the_model(tmp_path: Path) -> None:
    model = task_of().predictor()
    write_model(model, tmp_path)
    again = load(tmp_path)
    assert again.rows([["a red circle"]]) == model.rows([["a red circle"]])  # type: ignore[attr-defined]
    assert len(model.rows([["a red circle"]])[0]) > 100


def test_a_context_without_room_for_what_is_found_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"3 documents of up to \d+ tokens do not fit a context of 400"):
        task_of(context=400)
