"""Pairs with strong views: the weak pair is untouched, strong views are their own draws, evaluation draws nothing."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.batches.augmented_pairs import STRONG, Augmentation, AugmentedBatch, AugmentedProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.pixels.images import fill_pixels
from diptych.data.pixels.views import Views
from diptych.data.words.text_augment import TextAugmentation, augmented
from diptych.data.words.tokenizer import Tokenizer

CAPTIONS = ("the big dog runs on the grass", "a cat", "a red ball is on the table")
TOKENIZER = Tokenizer.fit(CAPTIONS, 300)
CONFIG = ImageTextConfig(ImagePreprocessing(16), TextPreprocessing(24))
BOTH = Augmentation(2, STRONG, TextAugmentation())


def picture(seed: int) -> Image:
    drawn = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(drawn).resize((80, 60)).save(file, "JPEG")
    return Image(encoded=file.getvalue())


SAMPLES = [Sample(f"k{i}", (picture(i),), CAPTIONS) for i in range(6)]


def batch_of(
    processor: ImageTextProcessor, samples: list[Sample] = SAMPLES, draws: bool = True, epoch: int = 0
) -> AugmentedBatch:
    arrays = {name: np.zeros((len(samples), *field.shape), field.dtype) for name, field in processor.layout().items()}
    items = [
        processor.prepare(sample, Draw(0, epoch, sample.key) if draws else None, {n: a[i] for n, a in arrays.items()})
        for i, sample in enumerate(samples)
    ]
    keys = tuple(sample.key for sample in samples)
    return processor.collate(keys, {name: torch.from_numpy(a) for name, a in arrays.items()}, items)


def texts_of(tokens_BT: torch.Tensor, lengths_B: torch.Tensor) -> list[str]:
    return [TOKENIZER.decode(row[:n].tolist()) for row, n in zip(tokens_BT, lengths_B, strict=True)]


@pytest.mark.parametrize("draws", [True, False])
def test_the_weak_pair_is_that_of_the_plain_processor(draws: bool) -> None:
    found = batch_of(AugmentedProcessor(CONFIG, TOKENIZER, BOTH), draws=draws)
    plain = batch_of(ImageTextProcessor(CONFIG, TOKENIZER), draws=draws)
    assert torch.equal(found.pixels_BCHW, plain.pixels_BCHW) and torch.equal(found.tokens_BT, plain.tokens_BT)
    assert torch.equal(found.lengths_B, plain.lengths_B) and (found.keys, found.seeds) == (plain.keys, plain.seeds)


def test_each_strong_view_is_a_draw_of_its_own() -> None:
    processor = AugmentedProcessor(CONFIG, TOKENIZER, BOTH)
    batch = batch_of(processor)
    assert batch.strong_BVCHW.shape == (6, 2, 3, 16, 16) and batch.strong_BVCHW.dtype == torch.uint8
    assert batch.strong_BVCHW.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    wanted = np.zeros((16, 16, 3), np.uint8)
    for row, sample in enumerate(SAMPLES):
        for view in range(2):
            draw = Draw(0, 0, sample.key)
            settings = replace(CONFIG.image, views=STRONG)
            fill_pixels(wanted, sample.image, sample.key, settings, draw, f"strong view {view}")
            assert np.array_equal(batch.strong_BVCHW[row, view].permute(1, 2, 0).numpy(), wanted)
    assert not torch.equal(batch.strong_BVCHW[:, 0], batch.strong_BVCHW[:, 1])
    again, later = batch_of(processor), batch_of(processor, epoch=1)
    assert torch.equal(again.strong_BVCHW, batch.strong_BVCHW)
    assert not torch.equal(later.strong_BVCHW, batch.strong_BVCHW)


def test_strong_texts_are_views_of_the_weak_pairs_caption() -> None:
    batch = batch_of(AugmentedProcessor(CONFIG, TOKENIZER, BOTH))
    weak = texts_of(batch.tokens_BT, batch.lengths_B)
    assert len(batch.strong_texts) == 2 and len(set(weak)) > 1
    for view, strong in enumerate(batch.strong_texts):
        rngs = [Draw(0, 0, sample.key).rng(f"strong text {view}") for sample in SAMPLES]
        wanted = [augmented(text, rng, TextAugmentation()) for text, rng in zip(weak, rngs, strict=True)]
        assert texts_of(*strong) == wanted != weak
        assert strong.tokens_BT.shape[1] == int(strong.lengths_B.max())


def test_evaluation_draws_nothing() -> None:
    batch = batch_of(AugmentedProcessor(CONFIG, TOKENIZER, BOTH), draws=False)
    for view in range(2):
        assert torch.equal(batch.strong_BVCHW[:, view], batch.pixels_BCHW)
        assert texts_of(*batch.strong_texts[view]) == [CAPTIONS[0]] * 6


def test_without_strong_views_or_strong_texts() -> None:
    none = batch_of(AugmentedProcessor(CONFIG, TOKENIZER, Augmentation(0, text=TextAugmentation())))
    assert none.strong_BVCHW.shape == (6, 0, 3, 16, 16) and none.strong_texts == ()
    pictures = batch_of(AugmentedProcessor(CONFIG, TOKENIZER, Augmentation(3)))
    assert pictures.strong_BVCHW.shape[1] == 3 and pictures.strong_texts == ()
    with pytest.raises(ConfigError, match="-1 strong views: give 0 or more"):
        Augmentation(-1)


def test_micro_batches_make_up_the_batch() -> None:
    batch = batch_of(AugmentedProcessor(CONFIG, TOKENIZER, BOTH))
    parts = batch.split(4)
    assert [part.num_samples for part in parts] == [4, 2] and all(isinstance(part, AugmentedBatch) for part in parts)
    for name in ("pixels_BCHW", "tokens_BT", "strong_BVCHW"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name)), name
    for view in range(2):
        for whole, *pieces in zip(batch.strong_texts[view], *(part.strong_texts[view] for part in parts), strict=True):
            assert torch.equal(torch.cat(pieces), whole)
    moved = batch.to(torch.device("meta"))
    assert moved.strong_BVCHW.is_meta and moved.pixels_BCHW.is_meta
    assert all(rows.is_meta for texts in moved.strong_texts for rows in texts)


def test_a_picture_is_decoded_once_and_large_enough_for_all_its_views(monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.data.batches import augmented_pairs

    asked: list[int] = []

    def counted(image: Image, key: str, least: int) -> np.ndarray:
        asked.append(least)
        return np.zeros((60, 80, 3), np.uint8)

    monkeypatch.setattr(augmented_pairs, "decode", counted)
    scaled = replace(CONFIG, image=replace(CONFIG.image, scaled_decoding=True))
    for config, least in ((CONFIG, 0), (scaled, 57)):  # 16 / sqrt(0.08)
        batch_of(AugmentedProcessor(config, TOKENIZER, BOTH), SAMPLES[:1])
        assert asked == [least]
        asked.clear()


def test_the_preview_shows_all_views_and_texts() -> None:
    processor = AugmentedProcessor(CONFIG, TOKENIZER, BOTH)
    batch = batch_of(processor)
    first = processor.preview(batch)[0]
    assert first.picture_HWC is not None and first.picture_HWC.shape == (32, 32, 3)
    assert np.array_equal(first.picture_HWC[:16, :16], batch.pixels_BCHW[0].permute(1, 2, 0).numpy())
    assert np.array_equal(first.picture_HWC[16:, :16], batch.strong_BVCHW[0, 1].permute(1, 2, 0).numpy())
    assert (first.picture_HWC[16:, 16:] == 255).all()
    said = [texts_of(*texts)[0] for texts in ((batch.tokens_BT, batch.lengths_B), *batch.strong_texts)]
    assert first.text == " | ".join(said) and first.tokens is not None


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample("k", SAMPLES[0].visuals), "no caption"),
        (Sample("k", SAMPLES[0].visuals, (" ",)), "empty caption"),
        (Sample("k", (), ("a",)), "no image"),
        (Sample("k", (Image(encoded=b"GIF89a nothing"),), ("a",)), "not an image"),
    ],
)
def test_bad_samples_say_why(sample: Sample, reason: str) -> None:
    with pytest.raises(BadSample) as caught:
        batch_of(AugmentedProcessor(CONFIG, TOKENIZER, BOTH), [sample])
    assert (caught.value.key, caught.value.reason) == ("k", reason)


def test_the_settings_are_plain_values_and_the_default_views_are_slips() -> None:
    for how in (BOTH, Augmentation(), Augmentation(3, Views(flip=0.5))):
        assert from_plain(Augmentation, to_plain(how)) == how
    assert Augmentation() == Augmentation(2, STRONG, None)
    assert (STRONG.crop_scale, STRONG.ratio, STRONG.flip, STRONG.grey) == ((0.08, 1.0), (3 / 4, 4 / 3), 0.5, 0.2)
    assert (STRONG.brightness, STRONG.contrast, STRONG.saturation, STRONG.hue) == (0.4, 0.4, 0.4, 0.1)
    assert (STRONG.colour, STRONG.blur, STRONG.blur_sigma) == (0.8, 0.5, (0.1, 2.0))
