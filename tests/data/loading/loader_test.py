"""The loader: same samples and pixels on any machine, exact resumption, no corruption, no hang."""

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample, Field, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.loading.loader import Loader, evaluation_batches
from diptych.data.pixels.views import Views
from diptych.data.words.tokenizer import Tokenizer
from diptych.distributed.world import World


class Numbers:
    """A source of numbered samples, some of them bad."""

    name = "numbers"

    def __init__(self, length: int, bad: Callable[[int], bool] = lambda index: False, print_: str = "a") -> None:
        self.length, self.bad, self.print_ = length, bad, print_

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if self.bad(index):
            raise BadSample(f"key{index}", "truncated image", "half of it")
        return Sample(f"key{index}", texts=(f"text {index}", f"other {index}"), meta={"index": index})

    def keys(self) -> Sequence[str]:
        return [f"key{index}" for index in range(self.length)]

    def fingerprint(self) -> str:
        return f"{self.print_}{self.length}"


@dataclass(frozen=True)
class NumberBatch:
    keys: tuple[str, ...]
    values_B4: Tensor
    indices: tuple[int, ...]


class NumberProcessor:
    """A row is the sample's number and three draws."""

    def __init__(self, prepare: Callable[[Sample], None] = lambda sample: None) -> None:
        self._also = prepare

    def layout(self) -> Mapping[str, Field]:
        return {"values": Field((4,), "float64")}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> int:
        self._also(sample)
        rows["values"][0] = sample.meta["index"]
        rows["values"][1:] = draw.rng("view").random(3) if draw else 0.0
        return int(sample.meta["index"])

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[Any]) -> NumberBatch:
        return NumberBatch(keys, arrays["values"], tuple(items))


@pytest.fixture
def opened() -> Iterator[Callable[..., Loader[NumberBatch]]]:
    """Makes loaders and closes them."""
    loaders: list[Loader[NumberBatch]] = []

    def make(source: Any = None, batch_size: int = 8, seed: int = 3, **options: Any) -> Loader[NumberBatch]:
        processor = options.pop("processor", NumberProcessor())
        loaders.append(Loader(Numbers(100) if source is None else source, processor, batch_size, seed, **options))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


def values(batches: Sequence[NumberBatch]) -> np.ndarray[Any, Any]:
    return np.concatenate([batch.values_B4.numpy() for batch in batches])


def take(loader: Loader[NumberBatch], count: int) -> list[NumberBatch]:
    return [next(loader) for _ in range(count)]


Open = Callable[..., Loader[NumberBatch]]


def test_an_epoch_has_every_sample_at_most_once_in_full_batches(opened: Open) -> None:
    batches = take(opened(), 24)
    for epoch in (batches[:12], batches[12:]):
        seen = [index for batch in epoch for index in batch.indices]
        assert len(seen) == len(set(seen)) == 96
    assert batches[0].indices != batches[12].indices
    assert all(batch.keys == tuple(f"key{i}" for i in batch.indices) for batch in batches)
    assert all(batch.values_B4[:, 0].tolist() == list(batch.indices) for batch in batches)


def test_a_set_smaller_than_a_batch_wraps_round(opened: Open) -> None:
    batches = take(opened(Numbers(5), batch_size=8), 5)
    seen = [index for batch in batches for index in batch.indices]
    assert all(sorted(seen[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 40, 5))
    rows = values(batches)
    assert len(np.unique(rows, axis=0)) == 40  # a sample that comes again is drawn again


def test_without_shuffling_samples_come_as_they_lie(opened: Open) -> None:
    assert take(opened(shuffle=False), 2)[1].indices == tuple(range(8, 16))


def test_threads_and_prefetch_change_nothing(opened: Open) -> None:
    expected = values(take(opened(threads=1, prefetch=0), 30))
    for options in ({"threads": 4, "prefetch": 5}, {"threads": 2}):
        assert np.array_equal(values(take(opened(**options), 30)), expected)
    assert not np.array_equal(values(take(opened(seed=4), 30)), expected)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_global_batch(opened: Open, ranks: int) -> None:
    source = Numbers(100, bad=lambda index: index % 40 == 7)
    whole = take(opened(source, bad_threshold=0.2), 30)
    shares = [take(opened(source, bad_threshold=0.2, world=World(rank, ranks)), 30) for rank in range(ranks)]
    for step, batch in enumerate(whole):
        joined = [share[step] for share in shares]
        assert sum((part.keys for part in joined), ()) == batch.keys
        assert np.array_equal(values(joined), batch.values_B4.numpy())


@pytest.mark.parametrize("before", [5, 12, 19])
def test_resumption_is_exact_on_any_number_of_ranks(opened: Open, before: int) -> None:
    source = Numbers(100, bad=lambda index: index % 40 == 7)
    first = opened(source, bad_threshold=0.2)
    take(first, before)
    state = json.loads(json.dumps(first.state_dict()))
    expected = take(first, 20)
    for ranks in (1, 2, 3):
        parts = []
        for rank in range(ranks):
            again = opened(source, bad_threshold=0.2, world=World(rank, ranks))
            take(again, 2)  # what was made ahead must be forgotten
            again.load_state_dict(state)
            parts.append(take(again, 20))
        for step, batch in enumerate(expected):
            assert np.array_equal(values([part[step] for part in parts]), batch.values_B4.numpy())


def test_the_state_counts_what_was_delivered_not_what_was_made(opened: Open) -> None:
    loader = opened(prefetch=6)
    take(loader, 3)
    state = loader.state_dict()
    assert (state["epoch"], state["offset"], state["samples"]) == (0, 24, 24)


def test_another_batch_size_continues_at_the_same_sample(opened: Open) -> None:
    first = opened(batch_size=8)
    take(first, 3)
    again = opened(batch_size=4)
    again.load_state_dict(first.state_dict())
    assert next(again).indices + next(again).indices == next(first).indices


@pytest.mark.parametrize("other", [{"source": Numbers(100, print_="b")}, {"seed": 9}, {"shuffle": False}])
def test_a_state_of_other_data_or_seed_is_refused(opened: Open, other: dict[str, Any]) -> None:
    state = opened().state_dict()
    with pytest.raises(DataError, match="cannot continue"):
        opened(**other).load_state_dict(state)


def test_a_batch_that_is_kept_is_never_written_to(opened: Open) -> None:
    loader = opened(batch_size=4, prefetch=3)
    kept = [next(loader) for _ in range(10)]
    row = next(loader).values_B4[1:2].numpy()  # a view of a view keeps the memory too
    copies, row_copy = [batch.values_B4.clone() for batch in kept], row.copy()
    take(loader, 60)
    assert all(torch.equal(batch.values_B4, copy) for batch, copy in zip(kept, copies, strict=True))
    assert np.array_equal(row, row_copy)


def test_memory_of_batches_that_were_let_go_is_used_again(opened: Open) -> None:
    loader = opened(batch_size=4, prefetch=2)
    addresses = set()
    for _ in range(60):
        addresses.add(next(loader).values_B4.data_ptr())
    assert len(addresses) <= 5


def test_bad_samples_are_replaced_counted_and_logged(opened: Open, tmp_path: Path) -> None:
    source = Numbers(100, bad=lambda index: index in (3, 50, 51))
    log = tmp_path / "logs" / "bad.jsonl"
    loader = opened(source, batch_size=10, bad_log=log)
    batches = take(loader, 10)
    assert all(len(batch.indices) == 10 for batch in batches)
    assert not {3, 50, 51} & {index for batch in batches for index in batch.indices}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["key"] for line in lines} == {"key3", "key50", "key51"}
    assert loader.stats.bad == {"truncated image": len(lines)} and loader.stats.samples == 100
    again = take(opened(source, batch_size=10, threads=4), 10)
    assert np.array_equal(values(again), values(batches))


def test_too_many_bad_samples_stop_the_run(opened: Open, tmp_path: Path) -> None:
    loader = opened(Numbers(1000, bad=lambda index: index % 10 == 0), bad_log=tmp_path / "bad.jsonl")
    with pytest.raises(DataError, match=r"could not be used.*truncated image.*bad\.jsonl") as caught:
        take(loader, 125)
    assert "allowed" in str(caught.value) and 88 <= loader.stats.samples < 200


def test_a_small_set_is_judged_after_as_many_as_it_has(opened: Open) -> None:
    loader = opened(Numbers(20, bad=lambda index: index < 5), batch_size=4)
    with pytest.raises(DataError, match="numbers: "):
        take(loader, 6)
    assert 3 <= loader.stats.batches <= 5


def test_nothing_but_bad_samples_ends_at_once(opened: Open) -> None:
    with pytest.raises(DataError, match="bad samples in a row; truncated image"):
        next(opened(Numbers(1000, bad=lambda index: True)))


def test_an_empty_source_and_too_small_a_batch_are_refused(opened: Open) -> None:
    with pytest.raises(DataError, match="numbers has no samples"):
        opened(Numbers(0))
    with pytest.raises(ConfigError, match="batch_size 2"):
        opened(batch_size=2, world=World(0, 3))


def explode(sample: Sample) -> None:
    if sample.meta["index"] == 42:
        raise ZeroDivisionError("a mistake in the processor")


def test_other_exceptions_reach_the_consumer_and_stop_the_threads(opened: Open) -> None:
    loader = opened(processor=NumberProcessor(explode), threads=3)
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        take(loader, 12)
    assert not [t for t in threading.enumerate() if t.name.startswith("loader") and t.is_alive()]


def test_closing_while_threads_are_at_work_returns(opened: Open) -> None:
    loader = opened(processor=NumberProcessor(lambda sample: time.sleep(0.01)), batch_size=64, prefetch=4)
    next(loader)
    started = time.perf_counter()
    loader.close()
    loader.close()
    assert time.perf_counter() - started < 2
    assert not [t for t in threading.enumerate() if t.name.startswith("loader") and t.is_alive()]


def test_a_loader_that_is_forgotten_leaves_no_thread() -> None:
    loader = Loader(Numbers(100), NumberProcessor(), 8, 0)
    next(loader)
    del loader
    gc.collect()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(t.name.startswith("loader") for t in threading.enumerate()):
        time.sleep(0.01)
    assert not any(t.name.startswith("loader") for t in threading.enumerate())


def test_time_waited_is_counted(opened: Open) -> None:
    loader = opened(processor=NumberProcessor(lambda sample: time.sleep(0.002)), prefetch=0, threads=1)
    take(loader, 3)
    assert loader.stats.wait > 3 * 8 * 0.002
    assert loader.stats.batches == 3


def test_evaluation_takes_everything_once_in_order() -> None:
    batches = evaluation_batches(Numbers(50), NumberProcessor(), 16)
    for _ in range(2):
        passed = list(batches)
        assert [index for batch in passed for index in batch.indices] == list(range(50))
        assert [len(batch.keys) for batch in passed] == [16, 16, 16, 2]
        assert values(passed)[:, 0].tolist() == list(range(50)) and not values(passed)[:, 1:].any()


def test_evaluation_leaves_bad_samples_out_and_names_them() -> None:
    bad = {0, 17, 30, *range(32, 48)}
    batches = evaluation_batches(Numbers(64, lambda index: index in bad), NumberProcessor(), 16, bad_threshold=0.5)
    passed = list(batches)
    assert [index for batch in passed for index in batch.indices] == [i for i in range(64) if i not in bad]
    assert values(passed)[:, 0].tolist() == [i for i in range(64) if i not in bad]
    assert {one.key for one in batches.bad} == {f"key{index}" for index in bad}
    strict = evaluation_batches(Numbers(64, lambda index: index in bad), NumberProcessor(), 16)
    with pytest.raises(DataError, match="could not be used"):
        list(strict)


class Pictures(Numbers):
    """Pictures of different sizes with captions."""

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (40 + index % 7, 50 + index % 5, 3), dtype=np.uint8)
        return Sample(f"key{index}", (Image(pixels_HWC=pixels),), (f"text {index}", f"another text {index}"))


def test_pictures_and_captions_are_bit_equal_over_ranks_and_resumption() -> None:
    config = ImageTextConfig(ImagePreprocessing(32, views=Views((0.2, 1.0), flip=0.5, hue=0.1)), TextPreprocessing(16))
    processor = ImageTextProcessor(config, Tokenizer.fit(["text 1", "another text 2"], 300))
    with Loader(Pictures(30), processor, 6, 1) as whole:
        batches = [next(whole) for _ in range(9)]
    shares = []
    for rank in range(2):
        with Loader(Pictures(30), processor, 6, 1, world=World(rank, 2)) as loader:
            for _ in range(3):
                next(loader)
            state = loader.state_dict()
        with Loader(Pictures(30), processor, 6, 1, world=World(rank, 2), threads=3) as loader:
            loader.load_state_dict(state)
            shares.append([next(loader) for _ in range(6)])
    for batch, left, right in zip(batches[3:], *shares, strict=True):
        assert left.keys + right.keys == batch.keys and left.seeds + right.seeds == batch.seeds
        assert torch.equal(torch.cat([left.pixels_BCHW, right.pixels_BCHW]), batch.pixels_BCHW)
        rows = [
            row[:n].tolist() for part in (left, right) for row, n in zip(part.tokens_BT, part.lengths_B, strict=True)
        ]
        assert rows == [row[:n].tolist() for row, n in zip(batch.tokens_BT, batch.lengths_B, strict=True)]
        assert batch.pixels_BCHW.is_contiguous(memory_format=torch.channels_last)
