"""Interleaved documents as batches: the order of their parts, their pictures, what cannot be used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Clip, Image
from diptych.data.batches.documents import PICTURE, DocumentBatch, DocumentProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import SceneDocuments, Scenes
from diptych.data.words.tokenizer import Tokenizer

SOURCE = SceneDocuments("train", 12, SceneConfig(32, 1, words=0.0))


def processor(most: int = 4) -> DocumentProcessor:
    words = [part for index in range(12) for part in SOURCE[index].parts if isinstance(part, str)]
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    return DocumentProcessor(ImageTextProcessor(settings, Tokenizer.fit(words, 400)), most)


def batch_of(made: DocumentProcessor, count: int = 12) -> DocumentBatch:
    return next(iter(EvaluationBatches(SOURCE, made, count, 2, 0.0)))


def test_parts_and_pictures_stand_as_they_do_in_the_sample() -> None:
    made = processor()
    batch, shown = batch_of(made), 0
    for index in range(12):
        sample, parts = SOURCE[index], batch.parts[index]
        assert len(parts) == len(sample.parts) and batch.keys[index] == sample.key
        for part, found in zip(sample.parts, parts, strict=True):
            if isinstance(part, str):
                assert made.pairs.tokenizer.decode(list(found)).strip() == part.lower()
            else:
                assert found == (PICTURE,) and isinstance(part, Image) and part.pixels_HWC is not None
                assert np.array_equal(batch.pixels_NCHW[shown].permute(1, 2, 0).numpy(), part.pixels_HWC)
                shown += 1
    assert shown == len(batch.pixels_NCHW) and len(set(batch.counts)) > 1


def test_micro_batches_take_their_pictures_along() -> None:
    batch = batch_of(processor())
    parts = batch.split(5)
    assert [part.num_samples for part in parts] == [5, 5, 2]
    assert [count for part in parts for count in part.counts] == batch.counts
    assert torch.equal(torch.cat([part.pixels_NCHW for part in parts]), batch.pixels_NCHW)
    assert [seed for part in parts for seed in part.seeds] == list(batch.seeds)


def test_a_document_ends_before_the_picture_that_is_too_many() -> None:
    batch = batch_of(processor(2))
    assert max(batch.counts) == 2
    whole = batch_of(processor(4))
    for cut, parts in zip(batch.parts, whole.parts, strict=True):
        assert parts[: len(cut)] == cut and (len(cut) == len(parts) or parts[len(cut)] == (PICTURE,))


def test_a_pair_is_a_document_in_either_order() -> None:
    made, source = processor(1), Scenes("train", 40, SceneConfig(32, 1, words=0.0))
    rows = {"pixels": np.zeros((1, 32, 32, 3), np.uint8)}
    first = sum(made.prepare(source[i], Draw(0, 0, source[i].key), rows).parts[0] == (PICTURE,) for i in range(40))
    assert 10 <= first <= 30
    assert made.prepare(source[0], None, rows).parts[-1] == (PICTURE,)


def test_what_is_no_document_says_why() -> None:
    made, rows = processor(), {"pixels": np.zeros((4, 32, 32, 3), np.uint8)}
    image = SOURCE[0].visuals[0]
    assert isinstance(image, Image)
    for parts, said in (((Clip((image,), (0.0,)),), "clip"), ((" ",), "empty"), ((), "empty")):
        with pytest.raises(BadSample, match=said):
            made.prepare(Sample("x", parts=parts), None, rows)
    broken = Image(encoded=b"\xff\xd8 no picture", name="x")
    with pytest.raises(BadSample):
        made.prepare(replace(SOURCE[0], parts=("a", broken)), None, rows)
    with pytest.raises(ConfigError, match="give 1 or more"):
        processor(0)
