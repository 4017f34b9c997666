"""What processors show of a batch is what the model is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.core.processor import Preview, Previewing, TokenCount
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data._pack_members import PictureFormat
from diptych.data.batches.classes import ClassBatch, ClassConfig, ClassProcessor
from diptych.data.batches.features import KeysOnly, TowerBatch, TowerProcessor, TowerTexts
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.derived.mixture import Mixture
from diptych.data.derived.subset import hold_out
from diptych.data.derived.without import WithoutTurns
from diptych.data.loading.loader import Loader
from diptych.data.open import open_source
from diptych.data.pack import Pack
from diptych.data.pixels.tower_inputs import TowerImages
from diptych.data.scenes.source import Scenes
from diptych.data.shards import shards_of
from diptych.data.sources.tar import TarSource
from diptych.data.words.tokenizer import Tokenizer

CAPTIONS = ("a red circle left of a blue square", "two rings")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.fit(CAPTIONS, 300)


def pixels(count: int, size: int = 8) -> torch.Tensor:
    """[count, 3, size, size] in channels-last strides, as the loader makes them."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)).permute(0, 3, 1, 2)


def test_pairs_show_their_view_and_what_the_tokens_say(tokenizer: Tokenizer) -> None:
    image = Image(pixels_HWC=np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    samples = [Sample(f"k{i}", (image,), (text,)) for i, text in enumerate(CAPTIONS)]
    full = len(tokenizer.encode([CAPTIONS[0]], 64)[0])

    def shown(max_length: int) -> tuple[torch.Tensor, list[Preview]]:
        settings = ImageTextConfig(ImagePreprocessing(16), TextPreprocessing(max_length))
        processor = ImageTextProcessor(settings, tokenizer)
        assert isinstance(processor, Previewing)
        with Loader(_Listed(samples), processor, 2, seed=0, shuffle=False) as loader:
            batch = next(loader)
        return batch.pixels_BCHW, list(processor.preview(batch))

    pixels_BCHW, (first, second) = shown(64)
    assert (first.key, first.text, second.text) == ("k0", *CAPTIONS)
    assert first.tokens == TokenCount(full, full, 64) and second.tokens is not None
    assert second.tokens.used < full == second.tokens.padded
    assert first.picture_HWC is not None
    np.testing.assert_array_equal(first.picture_HWC, pixels_BCHW[0].permute(1, 2, 0))
    _, (cut, _) = shown(full - 2)
    assert cut.tokens == TokenCount(full - 2, full - 2, full - 2)
    assert CAPTIONS[0].startswith(cut.text) and len(cut.text) < len(CAPTIONS[0])


class _Listed:
    """Samples in a list."""

    name = "listed"

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def keys(self) -> list[str]:
        return [sample.key for sample in self.samples]

    def fingerprint(self) -> str:
        return "listed"


def test_classes_show_their_names() -> None:
    processor = ClassProcessor(ClassConfig(("cat", "dog"), ImagePreprocessing(8)))
    batch = ClassBatch(("k0", "k1"), pixels(2), torch.tensor([1, 0]), (0, 0))
    first, second = processor.preview(batch)
    assert (first.text, second.text, first.tokens) == ("dog", "cat", None)
    assert second.picture_HWC is not None
    np.testing.assert_array_equal(second.picture_HWC, batch.pixels_BCHW[1].permute(1, 2, 0))


def test_towers_show_what_is_not_cached(tokenizer: Tokenizer) -> None:
    images, texts = TowerImages(8, 8, shorter_side=None), TowerTexts(tokenizer, 12)
    tokens_BT, lengths_B = texts.tokens(CAPTIONS)
    batch = TowerBatch(("k0", "k1"), pixels(2), tokens_BT, lengths_B, torch.arange(2))
    first, second = TowerProcessor(images, texts).preview(batch)
    assert second.text == CAPTIONS[1]
    assert first.tokens == TokenCount(int(lengths_B[0]), tokens_BT.shape[1], 12)
    assert first.picture_HWC is not None
    np.testing.assert_array_equal(first.picture_HWC, batch.images[0].permute(1, 2, 0))


def test_a_source_counts_its_shards(tmp_path: Path) -> None:
    scenes = open_source("scenes?count=30", "train")
    Pack(scenes, tmp_path / "packed", PictureFormat(), "train", 10).run()
    tars = open_source(str(tmp_path / "packed"), "train")
    assert isinstance(tars, TarSource)
    rest, held = hold_out(tars, 5)
    both: Source = Mixture([rest, KeysOnly(tars)], [1, 1])
    derived: list[Source] = [tars, held, KeysOnly(rest), WithoutTurns(held), both]
    assert [shards_of(one) for one in (scenes, Scenes("train", 3), *derived)] == [0, 0, 3, 3, 3, 3, 6]
