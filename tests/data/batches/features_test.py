"""Batches for towers: cached rows by key, drawn for training, the first for evaluation; the rest as the tower reads."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.batches.features import KeysOnly, TowerBatch, TowerProcessor, TowerTexts, captions_of
from diptych.data.cached.feature_rows import Block, FeatureRows
from diptych.data.derived.subset import hold_out
from diptych.data.loading.loader import Loader, evaluation_batches
from diptych.data.loading.row_filler import Bad
from diptych.data.pixels.tower_inputs import TowerImages
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer

IMAGES = TowerImages(height=24, width=32, shorter_side=None)
TEXTS = TowerTexts(Tokenizer.fit(["a red circle and a blue square"], 280), 20)
SOURCE = Scenes("train", 40)


def rows_of(counts: Sequence[int], width: int, bad: Sequence[int] = ()) -> FeatureRows:
    """Sample i has counts[i] rows (i, row, 0 ...)."""
    good = [index for index in range(len(counts)) if index not in bad]
    flat = [[index, row, *[0] * (width - 2)] for index in good for row in range(counts[index])]
    failures = [Bad(SOURCE.keys()[index], "truncated image", "x", 0) for index in bad]
    keys = [SOURCE.keys()[index] for index in good]
    return FeatureRows([Block(keys, [counts[i] for i in good], np.array(flat, np.float16), failures)])


def cached(bad: Sequence[int] = ()) -> TowerProcessor:
    return TowerProcessor(IMAGES, TEXTS, rows_of([2] * 40, 6, bad), rows_of([1 + i % 5 for i in range(40)], 3))


def numbers(keys: Sequence[str]) -> list[int]:
    return [int(key[-8:]) for key in keys]


def test_evaluation_takes_the_first_view_and_caption_of_each() -> None:
    batches = list(evaluation_batches(KeysOnly(SOURCE), cached(), 16))
    assert [batch.num_samples for batch in batches] == [16, 16, 8]
    for batch in batches:
        assert batch.images.dtype == batch.texts.dtype == torch.float32 and batch.lengths_B.tolist() == [0] * len(
            batch.keys
        )
        expected = [[number, 0] for number in numbers(batch.keys)]
        assert batch.images[:, :2].tolist() == expected == batch.texts[:, :2].tolist()


def test_training_draws_views_and_captions_by_seed_epoch_and_key() -> None:
    def drawn(threads: int) -> list[tuple[str, float, float]]:
        with Loader(KeysOnly(SOURCE), cached(), 8, seed=1, threads=threads) as loader:
            batches = [next(loader) for _ in range(40)]
        return [
            (key, image, text)
            for batch in batches
            for key, image, text in zip(
                batch.keys, batch.images[:, 1].tolist(), batch.texts[:, 1].tolist(), strict=True
            )
        ]

    found = drawn(1)
    assert drawn(3) == found
    views = Counter(view for _, view, _ in found)
    assert set(views) == {0, 1} and abs(views[0] / len(found) - 0.5) < 0.15
    for number in (4, 9, 39):  # these have five captions
        assert len({text for key, _, text in found if numbers([key]) == [number]}) >= 3
    assert {text for key, _, text in found if int(key[-1]) % 5 == 0} == {0}


def test_a_sample_without_features_is_bad_for_the_reason_found_then() -> None:
    batches = evaluation_batches(KeysOnly(SOURCE), cached(bad=[7]), 40)
    (batch,) = batches
    assert 7 not in numbers(batch.keys) and batch.num_samples == 39
    with pytest.raises(BadSample, match="scene-train-00000007: truncated image"):
        cached(bad=[7]).prepare(SOURCE[7], None, {"images": np.zeros(6), "texts": np.zeros(3)})


def test_an_open_side_is_what_the_tower_reads() -> None:
    processor = TowerProcessor(IMAGES, TEXTS)
    (batch,) = evaluation_batches(SOURCE, processor, 40)
    assert batch.images.shape == (40, 3, 24, 32) and batch.images.dtype == torch.uint8
    for index in (0, 17):
        pixels_HWC = np.zeros((24, 32, 3), np.uint8)
        IMAGES.fill(pixels_HWC, SOURCE[index].image, "")
        np.testing.assert_array_equal(batch.images[index].permute(1, 2, 0), pixels_HWC)
        ids = TEXTS.tokenizer.encode([SOURCE[index].texts[0]], 20)[0]
        assert batch.texts[index, : len(ids)].tolist() == list(ids) and int(batch.lengths_B[index]) == len(ids)


def test_with_both_sides_cached_the_data_are_not_read() -> None:
    class Unreadable(Scenes):
        def __getitem__(self, index: int) -> Sample:
            raise AssertionError("read although cached")

    (batch,) = evaluation_batches(KeysOnly(Unreadable("train", 40)), cached(), 40)
    assert batch.num_samples == 40


def test_keys_are_listed_once_and_not_for_every_sample() -> None:
    class Counting(Scenes):
        asked = 0

        def keys(self) -> Sequence[str]:
            Counting.asked += 1
            return super().keys()

    rest, _ = hold_out(Counting("train", 300), 50)
    source = KeysOnly(rest)
    before = Counting.asked
    assert [source[index].key for index in range(250)] == list(rest.keys()) == list(source.keys())
    assert Counting.asked == before + 1  # by the comparison itself
    assert (len(source), source.name, source.fingerprint()) == (250, rest.name, rest.fingerprint())


def test_batches_split_in_order_and_share_memory() -> None:
    (batch,) = evaluation_batches(KeysOnly(SOURCE), cached(), 40)
    parts = batch.split(16)
    assert [part.num_samples for part in parts] == [16, 16, 8]
    assert tuple(key for part in parts for key in part.keys) == batch.keys
    for name in ("images", "texts", "lengths_B"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert parts[1].images.data_ptr() == batch.images[16:].data_ptr()
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, TowerBatch) and torch.equal(moved.texts, batch.texts)


def test_texts_in_order_of_length_come_once_each() -> None:
    texts = ["a red circle " * (1 + index * 7 % 5) for index in range(23)]
    seen: list[int] = []
    widths = []
    for chosen, tokens_BT, lengths_B in TowerTexts(TEXTS.tokenizer, 200).in_order_of_length(texts, 5):
        seen += chosen
        widths.append(tokens_BT.shape[1])
        assert int(lengths_B.max()) == tokens_BT.shape[1]
        for row, index in enumerate(chosen):
            ids = TEXTS.tokenizer.encode([texts[index]], 200)[0]
            assert tokens_BT[row, : int(lengths_B[row])].tolist() == list(ids)
    assert sorted(seen) == list(range(23)) and widths == sorted(widths) and widths[0] < widths[-1]


@pytest.mark.parametrize(("texts", "reason"), [((), "no caption"), (("", " \n"), "empty caption")])
def test_samples_without_a_caption_are_bad(texts: tuple[str, ...], reason: str) -> None:
    with pytest.raises(BadSample) as caught:
        captions_of(Sample("k", (Image(encoded=b""),), texts))
    assert caught.value.reason == reason
    assert captions_of(Sample("k", texts=("", "a", " "))) == ["a"]
