"""Chameleon and CM3Leon: documents obey the grammar, likelihoods are whole, gaps are filled from both sides."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from diptych.core.errors import ConfigError, DiptychError, TextTooLong
from diptych.core.sampling import ImageSampling, TextSampling
from diptych.core.visual import Image
from diptych.data.batches.documents import PICTURE, DocumentBatch, DocumentProcessor
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import SceneDocuments, Scenes
from diptych.data.words.causal_masking import unmasked
from diptych.models.generative import chameleon, cm3leon
from diptych.models.generative._moved_parts import span_tokens
from diptych.models.generative._picture_codes import codes_of

SOURCE = Scenes("train", 64, SceneConfig(32, 1, words=0.0))
MODULES: dict[str, Any] = {"chameleon": chameleon, "cm3leon": cm3leon}
DRAWN = TextSampling(128, temperature=1.0)


def task_of(name: str, **changes: Any) -> Any:
    """A task with random weights, and its first kind."""
    torch.manual_seed(0)
    samples = [SOURCE[index] for index in range(8)]
    first = next(iter(MODULES[name].tiny_tasks(samples).values()))
    task = type(first)(replace(first.config, **changes), first.processor)
    with torch.no_grad():
        for parameter in task.model.trunk.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return task.eval()


def batch_of(task: Any, count: int = 64) -> Any:
    return next(iter(evaluation_batches(SOURCE, task.processor, count)))


@pytest.mark.parametrize("name", MODULES)
def test_every_document_that_is_written_obeys_the_grammar(name: str) -> None:
    model = task_of(name).predictor()
    layout, words = model.module.layout, model.processor.tokenizer
    never = {words.pad_id, words.start_id, layout.end_of_span, *range(layout.begin + 3, layout.size)}
    written: list[list[int]] = []
    parts_of = model.parts_of
    model.parts_of = lambda tokens: (written.append(list(tokens)), parts_of(tokens))[1]
    whole = 0
    for seed in range(150):
        for part in model.continue_document(["a red circle"], DRAWN, seed):
            whole += isinstance(part, Image)
    pictures = 0
    for tokens in written:
        left = 0
        for place, token in enumerate(tokens):
            assert token not in never
            assert layout.is_code(token) == (left > 1), (tokens, place)
            assert (token == layout.finish) == (left == 1)
            left = layout.length + 1 if token == layout.begin else max(left - 1, 0)
        pictures += sum(token == layout.finish for token in tokens)
    assert whole == pictures > 5


@pytest.mark.parametrize("name", MODULES)
def test_the_probabilities_of_all_pictures_add_up_to_one(name: str) -> None:
    """Of a picture of one code after a text, over all codes there are."""
    model = task_of(name).predictor()
    layout = model.module.layout
    given = [*model._before_pictures(["a red circle"])] * layout.codes
    with torch.inference_mode():
        first = model._likelihood(given, [[layout.words + code] for code in range(layout.codes)], codes_only=True)
    assert float(first.log_N.exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", MODULES)
def test_a_document_and_its_likelihoods_are_one(name: str) -> None:
    """log p(text, then picture) is the sum of its tokens' whichever verb says it, where codes alone may come."""
    model = task_of(name).predictor()
    image, text = SOURCE[0].image, "a red circle"
    picture = model.image_likelihood([text], [image])
    row = model.rows([[text, image]])[0]
    with torch.no_grad():
        logits = model.module.code_logits(model.module(torch.tensor([row])))[0]
    codes = model.module.layout.codes_in(row)
    begin = row.index(model.module.layout.begin)
    wanted = sum(float(logits[begin + at].log_softmax(-1)[code]) for at, code in enumerate(codes))
    assert float(picture.log_N[0]) == pytest.approx(wanted, rel=1e-4)
    assert picture.counts_N.tolist() == [model.module.layout.length]
    blind, seen = (float(model.text_likelihood([one], [""], [text]).log_N[0]) for one in (None, image))
    assert blind != pytest.approx(seen)


@pytest.mark.parametrize("name", MODULES)
def test_guidance_has_its_ends(name: str) -> None:
    model, text = task_of(name).predictor(), "a red circle"

    def codes(weight: float, said: str = text) -> list[int]:
        found: list[int] = model.written_codes([said], [3], ImageSampling(guidance=weight))[0].tolist()
        return found

    assert codes(0.0) == codes(0.0, "a blue square") != codes(1.0)
    assert codes(1.0) != codes(6.0)


def test_chameleon_shows_half_of_the_pictures_first_and_drops_some_texts() -> None:
    task = task_of("chameleon", drop=0.3)
    batch, layout = batch_of(task), task.model.layout
    tokens, lengths = task.documents(batch)
    first = sum(int(row[1]) == layout.begin for row in tokens)
    assert 20 <= first <= 50  # a half of those with text, and all of those without
    alone = sum(int(length) == layout.length + 4 for length in lengths)
    assert 10 <= alone <= 30
    for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True):
        assert row[0] == task.processor.tokenizer.start_id and row[length - 1] == task.processor.tokenizer.end_id
        assert len(layout.codes_in(row)) == layout.length


def test_chameleon_has_a_loss_of_its_own_on_the_softmax() -> None:
    task = task_of("chameleon", z_loss=0.01)
    losses = task.losses(batch_of(task, 8))
    assert losses["z"].weight == 0.01 and float(losses["z"].sum) > 0
    assert set(task_of("chameleon", z_loss=0.0).losses(batch_of(task, 8))) == {"tokens"}


def test_cm3leon_moves_parts_that_come_back_and_whole_texts_where_it_drops_them() -> None:
    task = task_of("cm3leon", drop=0.3, spans=1.5)
    kinds = span_tokens(task.model.layout, task.processor.tokenizer)
    batch, moved, whole = batch_of(task), 0, 0
    tokens, lengths = task.documents(batch)
    plain, known = task_of("cm3leon", drop=0.0, spans=0.0).documents(batch)
    for row, length, wanted, end in zip(tokens.tolist(), lengths.tolist(), plain.tolist(), known.tolist(), strict=True):
        assert unmasked(row[:length], kinds) == wanted[:end]
        moved += length > end
        whole += row[1:3] == [kinds.sentinels[0], task.model.layout.begin]
    assert 35 <= moved <= 60 and whole >= 3


def test_cm3leon_fills_gaps_told_both_sides() -> None:
    model = task_of("cm3leon").predictor()
    image = SOURCE[0].image
    seen: list[list[int]] = []
    decoder = model.decoder
    model.decoder = lambda rows, *more: (seen.extend(list(row) for row in rows), decoder(rows, *more))[1]
    found = model.continue_document(["a", "[MASK]", "circle", image, "[MASK]"], DRAWN, seed=1)
    layout, words = model.module.layout, model.processor.tokenizer
    assert len(found) == 2 and all(isinstance(one, str) for one in found)
    first, second = seen
    assert first[-1] == layout.sentinel(0) and first.count(layout.sentinel(0)) == 2  # in its gap, and where it is told
    assert words.end_id in first and len(layout.codes_in(first)) == layout.length
    assert second[: len(first)] == first and second[-1] == layout.sentinel(1)
    with pytest.raises(DiptychError, match="fills 1 to 3"):
        model.continue_document(["[MASK]"] * 4)


def test_contrastive_decoding_takes_the_place_of_guidance() -> None:
    plain, contrasted = task_of("cm3leon"), task_of("cm3leon", contrast=0.01)
    contrasted.load_state_dict(plain.state_dict())
    rows = [
        one.predictor().written_codes(["a red circle"], [3], ImageSampling(guidance=2.0, temperature=0.0)).tolist()
        for one in (plain, contrasted)
    ]
    assert rows[0] != rows[1]


@pytest.mark.parametrize("name", MODULES)
def test_what_does_not_fit_is_refused(name: str) -> None:
    task = task_of(name)
    model, image = task.predictor(), SOURCE[0].image
    with pytest.raises(TextTooLong, match=r"no room|does not fit"):
        model.continue_document([image] * 40)
    with pytest.raises(TextTooLong, match="longer than the 128"):
        model.generate_image(["circle " * 160])
    with pytest.raises(ConfigError, match="neither diffuses nor ranks"):
        model.generate_image(["a red circle"], 0, ImageSampling(steps=3))
    with pytest.raises(ConfigError, match=r"raise model\.context"):
        type(task)(replace(task.config, context=100), task.processor)
    with pytest.raises(ConfigError, match="the tokenizer has"):
        type(task)(replace(task.config, words=100), task.processor)


def test_what_a_token_sees() -> None:
    """Any token changes what comes after it, and nothing before."""
    task = task_of("chameleon")
    tokens, _ = task.documents(batch_of(task, 4))
    with torch.no_grad():
        before = task.model(tokens)
        for place in itertools.islice(range(tokens.shape[1]), 1, None, 9):
            changed = tokens.clone()
            changed[:, place] = (changed[:, place] + 1) % task.model.layout.size
            moved = (task.model(changed) - before).abs().amax((0, 2))
            assert moved[:place].max() < 1e-6 and moved[place] > 1e-4


def interleaved(name: str, context: int) -> tuple[Any, DocumentBatch]:
    """A task on documents of several pictures, cut to a context, and a batch of them."""
    pairs = task_of(name)
    source = SceneDocuments("train", 12, SceneConfig(32, 1, words=0.0))
    task = type(pairs)(pairs.config, DocumentProcessor(pairs.processor, 4))
    task.load_state_dict(pairs.state_dict())
    task.config = replace(task.config, context=context)
    return task.eval(), next(iter(evaluation_batches(source, task.processor, 12)))


@pytest.mark.parametrize("name", MODULES)
def test_interleaved_documents_are_read_in_their_order(name: str) -> None:
    """What the rows say, taken apart again, is what was told; moved parts put back first."""
    task, batch = interleaved(name, context=200)
    tokens, lengths = task.documents(batch)
    layout, words = task.model.layout, task.pairs.tokenizer
    codes = iter(codes_of(task.model.tokenizer, batch.pixels_NCHW).tolist())
    whole = 0
    for row, length, parts in zip(tokens.tolist(), lengths.tolist(), batch.parts, strict=True):
        told = [words.start_id]
        for part in parts:
            told += layout.picture(next(codes)) if part == (PICTURE,) else part
        if length == task.config.context and name == "cm3leon":
            continue  # a moved part may be cut off
        seen = unmasked(row[:length], span_tokens(layout, words)) if name == "cm3leon" else row[:length]
        assert seen[-1] == words.end_id and seen[:-1] == told[: len(seen) - 1]
        whole += len(seen) == len(told) + 1
        assert len(seen) == len(told) + 1 or told[len(seen) - 1] == layout.begin or length == task.config.context
    assert whole >= 3
    loss = task.losses(batch)["tokens"]
    assert loss.count > 12 * 30


def test_interleaved_documents_that_are_too_long_lose_whole_pictures() -> None:
    task, batch = interleaved("chameleon", context=64)
    tokens, lengths = task.documents(batch)
    layout = task.model.layout
    assert tokens.shape[1] <= 64
    for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True):
        assert row[length - 1] == task.pairs.tokenizer.end_id
        assert len(layout.codes_in(row)) == layout.length * row.count(layout.begin)
        assert row.count(layout.begin) == row.count(layout.finish)
