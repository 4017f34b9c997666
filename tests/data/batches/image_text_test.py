"""Pictures with captions, or with classes, as batches."""

import numpy as np
import pytest
import torch

from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Clip, Image
from diptych.data.batches.classes import ClassConfig, ClassProcessor
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.pixels.normalise import normalise
from diptych.data.pixels.views import Views
from diptych.data.words.tokenizer import Tokenizer

PICTURE = Image(pixels_HWC=np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8))
CONFIG = ImageTextConfig(ImagePreprocessing(32), TextPreprocessing(12))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.fit(["a dog runs", "a cat"], 280)


@pytest.fixture(scope="module")
def processor(tokenizer: Tokenizer) -> ImageTextProcessor:
    return ImageTextProcessor(CONFIG, tokenizer)


def batch_of(processor: ImageTextProcessor, samples: list[Sample], draws: bool = True) -> ImageTextBatch:
    rows = np.zeros((len(samples), 32, 32, 3), np.uint8)
    items = [
        processor.prepare(sample, Draw(0, 0, sample.key) if draws else None, {"pixels": rows[i]})
        for i, sample in enumerate(samples)
    ]
    return processor.collate(tuple(sample.key for sample in samples), {"pixels": torch.from_numpy(rows)}, items)


def samples(count: int) -> list[Sample]:
    return [Sample(f"k{i}", (PICTURE,), ("a cat", "a dog runs", "dog")) for i in range(count)]


def test_a_batch_has_pixels_and_the_longest_captions_length(processor: ImageTextProcessor) -> None:
    batch = batch_of(processor, samples(8))
    assert batch.num_samples == 8 and batch.pixels_BCHW.shape == (8, 3, 32, 32)
    assert batch.pixels_BCHW.dtype == torch.uint8
    assert batch.tokens_BT.shape == (8, int(batch.lengths_B.max()))
    padding = torch.arange(batch.tokens_BT.shape[1]) >= batch.lengths_B[:, None]
    assert (batch.tokens_BT[padding] == processor.tokenizer.pad_id).all()
    assert len(set(batch.seeds)) == 8


def test_training_draws_a_caption_and_evaluation_takes_the_first(processor: ImageTextProcessor) -> None:
    drawn = batch_of(processor, samples(60))
    decoded = [processor.tokenizer.decode(row.tolist()) for row in drawn.tokens_BT]
    assert set(decoded) == {"a cat", "a dog runs", "dog"}
    assert all(10 <= decoded.count(text) <= 30 for text in set(decoded))
    assert batch_of(processor, samples(60)).tokens_BT.equal(drawn.tokens_BT)
    plain = batch_of(processor, samples(5), draws=False)
    assert {processor.tokenizer.decode(row.tolist()) for row in plain.tokens_BT} == {"a cat"}


def test_evaluation_pixels_are_the_predictors(processor: ImageTextProcessor) -> None:
    batch = batch_of(processor, samples(3), draws=False)
    assert torch.equal(processor.pixels([PICTURE] * 3), batch.pixels_BCHW)
    assert torch.equal(processor.pixels([PICTURE] * 3, threads=1), batch.pixels_BCHW)
    assert not torch.equal(batch_of(processor, samples(3)).pixels_BCHW, batch.pixels_BCHW)
    tokens_NT, lengths_N = processor.tokens(["a cat", "a dog runs"])
    assert tokens_NT.shape[1] == int(lengths_N.max()) and processor.pixels([]).shape == (0, 3, 32, 32)


def test_training_without_views_uses_the_evaluation_geometry(tokenizer: Tokenizer) -> None:
    config = ImageTextConfig(ImagePreprocessing(32, resize="squash", views=None), TextPreprocessing(12))
    processor = ImageTextProcessor(config, tokenizer)
    assert torch.equal(batch_of(processor, samples(2)).pixels_BCHW, processor.pixels([PICTURE, PICTURE]))


def test_constant_padding_is_an_option(tokenizer: Tokenizer) -> None:
    config = ImageTextConfig(ImagePreprocessing(32), TextPreprocessing(12, pad_to_max=True))
    assert batch_of(ImageTextProcessor(config, tokenizer), samples(2)).tokens_BT.shape == (2, 12)


def test_micro_batches_make_up_the_batch(processor: ImageTextProcessor) -> None:
    batch = batch_of(processor, samples(7))
    parts = batch.split(3)
    assert [part.num_samples for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part.pixels_BCHW for part in parts]), batch.pixels_BCHW)
    assert torch.equal(torch.cat([part.tokens_BT for part in parts]), batch.tokens_BT)
    assert sum((part.keys for part in parts), ()) == batch.keys
    assert sum((part.seeds for part in parts), ()) == batch.seeds
    assert torch.equal(batch.to(torch.device("cpu")).tokens_BT, batch.tokens_BT)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample("k", (PICTURE,)), "no caption"),
        (Sample("k", (PICTURE,), ("", "  \n")), "empty caption"),
        (Sample("k", (), ("a",)), "no image"),
        (Sample("k", (Clip((PICTURE,), (0.0,)),), ("a",)), "not an image"),
        (Sample("k", (Image(encoded=b"GIF89a nothing"),), ("a",)), "not an image"),
    ],
)
def test_bad_samples_say_why(processor: ImageTextProcessor, sample: Sample, reason: str) -> None:
    with pytest.raises(BadSample) as caught:
        batch_of(processor, [sample])
    assert (caught.value.key, caught.value.reason) == ("k", reason)


def test_blank_captions_among_others_are_passed_over(processor: ImageTextProcessor) -> None:
    batch = batch_of(processor, [Sample(f"k{i}", (PICTURE,), (" ", "a cat")) for i in range(8)])
    assert {processor.tokenizer.decode(row.tolist()) for row in batch.tokens_BT} == {"a cat"}


def test_configurations_come_back_from_plain_values() -> None:
    views = Views((0.5, 1.0), flip=0.5)
    config = ImageTextConfig(ImagePreprocessing(64, "squash", (0.5,) * 3, (0.5,) * 3, views, "bilinear"))
    assert from_plain(ImageTextConfig, to_plain(config)) == config
    assert from_plain(ImagePreprocessing, to_plain(ImagePreprocessing(views=None))).views is None
    classes = ClassConfig(("cat", "dog"))
    assert from_plain(ClassConfig, to_plain(classes)) == classes
    for wrong in ({"size": 0}, {"std": (0.5, 0.0, 0.5)}):
        with pytest.raises(ConfigError):
            ImagePreprocessing(**wrong)  # type: ignore[arg-type]


def test_classes_are_looked_up() -> None:
    processor = ClassProcessor(ClassConfig(("cat", "dog"), ImagePreprocessing(32)))
    rows = np.zeros((2, 32, 32, 3), np.uint8)
    known = [Sample(f"k{i}", (PICTURE,), meta={"class": name}) for i, name in enumerate(("dog", "cat"))]
    items = [processor.prepare(s, None, {"pixels": rows[i]}) for i, s in enumerate(known)]
    batch = processor.collate(("k0", "k1"), {"pixels": torch.from_numpy(rows)}, items)
    assert batch.classes_B.tolist() == [1, 0] and [part.classes_B.tolist() for part in batch.split(1)] == [[1], [0]]
    assert torch.equal(batch.pixels_BCHW, processor.pixels([PICTURE, PICTURE]))
    for meta, reason in (({}, "no class"), ({"class": "cow"}, "unknown class")):
        with pytest.raises(BadSample, match=reason):
            processor.prepare(Sample("k", (PICTURE,), meta=meta), None, {"pixels": rows[0]})
    with pytest.raises(ConfigError, match="each once"):
        ClassConfig(("cat", "cat"))


def test_predictors_refuse_what_is_no_picture(processor: ImageTextProcessor) -> None:
    with pytest.raises(DataError, match="no picture at nowhere"):
        processor.pixels(["nowhere.jpg"])
    with pytest.raises(BadSample, match="picture 1: not an image"):
        processor.pixels([PICTURE, b"words"])


@pytest.mark.parametrize("layout", ["planes", "interleaved"])
def test_normalising_is_the_closed_form_in_place_or_not(layout: str) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    pixels = torch.randint(0, 256, (3, 3, 16, 20), dtype=torch.uint8)
    if layout == "interleaved":
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    expected = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    out = torch.empty(3, 3, 16, 20)
    assert normalise(pixels, mean, std, out) is out
    assert torch.allclose(out, expected, atol=1e-5)
    fresh = normalise(pixels, mean, std)
    assert torch.allclose(fresh, expected, atol=1e-5) and fresh.stride() == pixels.stride()
