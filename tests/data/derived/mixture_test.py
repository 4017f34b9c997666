"""Mixtures: shares hold in every prefix, nothing depends on how it is read, and a loader resumes in one."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from diptych.core.errors import ConfigError, DataError
from diptych.core.sample import Sample
from diptych.data.batches.classes import ClassConfig, ClassProcessor
from diptych.data.derived.mixture import Mixture
from diptych.data.loading.loader import Loader
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.scenes.world import SHAPES


class Named:
    """Samples that are nothing but a key."""

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return Sample(f"{self.name}{index}", texts=(f"text of {self.name}{index}",))

    def keys(self) -> Sequence[str]:
        return [f"{self.name}{index}" for index in range(self.count)]

    def fingerprint(self) -> str:
        return f"{self.name} {self.count}"


def mixed(weights: Sequence[float], length: int = 3000, sizes: Sequence[int] = (500, 40, 7), seed: int = 0) -> Mixture:
    sources = [Named("abc"[index], size) for index, size in enumerate(sizes[: len(weights)])]
    return Mixture(sources, weights, length, seed)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (0.7, 0.2, 0.1), (1.0, 1e-3), (5.0, 3.0, 11.0)])
def test_every_prefix_has_the_shares_to_within_one_sample(weights: tuple[float, ...]) -> None:
    taken = Counter({"abc"[index]: 0 for index in range(len(weights))})
    for position, key in enumerate(mixed(weights).keys(), 1):
        taken[key[0]] += 1
        for index, weight in enumerate(weights):
            assert abs(taken["abc"[index]] - position * weight / sum(weights)) <= 1 + 1e-9, position


def test_a_source_is_gone_through_whole_before_it_comes_again_in_another_order() -> None:
    keys = [key for key in mixed([1, 1]).keys() if key[0] == "b"]
    rounds = [keys[start : start + 40] for start in range(0, 1480, 40)]
    plain = [[key.partition("#")[0] for key in one] for one in rounds]
    assert all(set(one) == {f"b{index}" for index in range(40)} for one in plain)
    assert len({tuple(one) for one in plain}) == len(plain) == 37
    assert [key.partition("#")[2] for key in keys[:80:40]] == ["", "1"]


def test_keys_are_distinct_and_those_of_the_samples() -> None:
    source = mixed([0.7, 0.2, 0.1])
    keys = list(source.keys())
    assert len(set(keys)) == 3000 == len(source)
    for index in (0, 1, 17, 1500, 2999):
        sample = source[index]
        assert sample.key == keys[index] and sample.texts == (f"text of {keys[index].partition('#')[0]}",)


def test_shared_keys_get_their_sources_place() -> None:
    twice = Mixture([Named("a", 5), Named("a", 5)], [1, 1], 10)
    assert {key.partition("/")[0] for key in twice.keys()} == {"0", "1"} and len(set(twice.keys())) == 10
    assert twice[0].key == twice.keys()[0]
    assert not any("/" in key for key in mixed([1, 1]).keys())


def test_reading_in_any_order_gives_the_same_and_another_seed_another_order() -> None:
    forwards = list(mixed([2, 1]).keys())
    backwards = mixed([2, 1])
    assert [backwards[index].key for index in reversed(range(3000))] == forwards[::-1]
    other = list(mixed([2, 1], seed=1).keys())
    assert other != forwards
    assert [key[0] for key in other] == [key[0] for key in forwards]  # the sources take turns alike


def test_its_length_is_that_of_its_sources_unless_given() -> None:
    assert len(Mixture([Named("a", 5), Named("b", 9)], [1, 1])) == 14
    assert mixed([3, 1]).name == "75% a + 25% b"


@pytest.mark.parametrize(
    ("sources", "weights", "error", "sentence"),
    [
        ([Named("a", 5)], [1, 1], ConfigError, "one weight a source: got 1 sources, 2 weights"),
        ([], [], ConfigError, "got 0 sources, 0 weights"),
        ([Named("a", 5), Named("b", 5)], [1, 0], ConfigError, r"must be positive numbers, got \[1, 0\]"),
        ([Named("a", 5), Named("b", 5)], [1, float("nan")], ConfigError, "must be positive"),
        ([Named("a", 5), Named("b", 5)], [1, float("inf")], ConfigError, "must be positive"),
        ([Named("a", 5), Named("b", 0)], [1, 1], DataError, "b has no samples to mix"),
    ],
)
def test_what_cannot_be_mixed(sources: Any, weights: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        Mixture(sources, weights)


def loader(source: Mixture) -> Loader[Any]:
    return Loader(source, ClassProcessor(ClassConfig(SHAPES, ImagePreprocessing(24))), batch_size=8, seed=3)


def scenes(weights: Sequence[float]) -> Mixture:
    one = SceneConfig(objects=1, size=24)
    other = SceneConfig(objects=1, size=24, seed=1)
    return Mixture([Scenes("train", 30, one), Scenes("train", 20, other)], weights, 48)


def test_a_loader_resumes_in_the_middle_of_a_mixture() -> None:
    with loader(scenes([2, 1])) as first:
        for _ in range(4):
            next(first)
        state = first.state_dict()
        expected = [next(first) for _ in range(5)]  # into the next epoch
    with loader(scenes([4, 2])) as again:
        again.load_state_dict(state)
        for batch in expected:
            found = next(again)
            assert found.keys == batch.keys and bool((found.pixels_BCHW == batch.pixels_BCHW).all())
    with loader(scenes([2, 1.01])) as other, pytest.raises(DataError, match="the data changed"):
        other.load_state_dict(state)


def test_an_epoch_of_a_loader_has_the_shares() -> None:
    with loader(scenes([2, 1])) as batches:
        taken = Counter(key.partition("/")[0] for _ in range(6) for key in next(batches).keys)
    assert taken == {"0": 32, "1": 16}
