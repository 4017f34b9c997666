"""The recipes of SLIP and CLIP-rocket: clip_tiny's data and budget, strong views where the model takes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diptych.core.config import from_plain, to_plain
from diptych.core.seeding import Draw
from diptych.data.batches.augmented_pairs import AugmentedBatch, AugmentedProcessor
from diptych.data.batches.image_text import ImageTextConfig, TextPreprocessing
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.contrastive import clip
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.recipes.clip_rocket_tiny import ClipRocketRun, clip_rocket_tiny
from diptych.recipes.clip_tiny import clip_tiny
from diptych.recipes.slip_tiny import SlipRun, slip_tiny

TOKENIZER = Tokenizer.fit([Scenes("train")[i].texts[0] for i in range(20)], 512)
RECIPES = (slip_tiny, clip_rocket_tiny)


def settings_of(run: SlipRun | ClipRocketRun) -> ImageTextConfig:
    return ImageTextConfig(run.image, TextPreprocessing(run.context, negatives=run.negatives))


@pytest.mark.parametrize("recipe", RECIPES)
def test_data_towers_and_budget_are_those_of_clip_tiny(recipe: type) -> None:
    run, plain = recipe(), clip_tiny()
    own = {"name", "model", "augmentation"}
    mine, theirs = to_plain(run), to_plain(plain)
    assert {name: value for name, value in mine.items() if name not in own} == {
        name: value for name, value in theirs.items() if name not in own
    }
    assert clip.Config(run.model.vision, run.model.text, run.model.width) == plain.model
    assert from_plain(type(run), mine) == run


@pytest.mark.parametrize(("recipe", "off"), [(slip_tiny, {"ssl_scale": 0.0}), (clip_rocket_tiny, {"views": 0})])
def test_strong_views_are_made_where_the_model_takes_them(recipe: type, off: dict[str, float]) -> None:
    run = recipe()
    options = PairOptions(Masking(image=0.5))
    task = run.task(settings_of(run), TOKENIZER, options)
    assert task.processor.layout()["strong"].shape == (2, 64, 64, 3) and task.options == options
    assert task.config.text.vocab_size == TOKENIZER.vocab_size
    without = replace(run, model=replace(run.model, **off)).task(settings_of(run), TOKENIZER, options)
    assert without.processor.layout()["strong"].shape[0] == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_hard_negatives_come_with_the_weak_pair(recipe: type) -> None:
    run = replace(recipe(), negatives=("swap_attribute",))
    task = run.task(settings_of(run), TOKENIZER, PairOptions())
    processor, samples = task.processor, [Scenes("train")[i] for i in range(6)]
    assert isinstance(processor, AugmentedProcessor)
    arrays = {
        name: torch.zeros(len(samples), *field.shape, dtype=torch.uint8) for name, field in processor.layout().items()
    }
    items = [
        processor.prepare(sample, Draw(0, 0, sample.key), {name: array[i].numpy() for name, array in arrays.items()})
        for i, sample in enumerate(samples)
    ]
    batch = processor.collate(tuple(sample.key for sample in samples), arrays, items)
    assert isinstance(batch, AugmentedBatch) and batch.negatives is not None
    assert all(part.negatives is not None and len(part.negatives.tokens_BT) == 2 for part in batch.split(2))
    rows = task.features(batch).features
    assert {"negative", "wanted"} <= rows.keys() and all(len(one) == 6 for one in rows.values())
    assert all(bool(part.value.isfinite()) for part in task.losses(batch).values())
