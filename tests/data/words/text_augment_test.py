"""Strong views of captions: each change alone, how often each is made, and what never happens."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError, DataError
from diptych.data.words.text_augment import TextAugmentation, augmented, words_of

NOTHING = TextAugmentation(0, 0, 0, 0)
CAPTION = "The big dog runs, and a dog sleeps near the zyzzyva."


def many(caption: str, how: TextAugmentation, draws: int = 300) -> list[str]:
    return [augmented(caption, np.random.default_rng(seed), how) for seed in range(draws)]


def test_nothing_changes_nothing() -> None:
    assert set(many(CAPTION, NOTHING, 20)) == {CAPTION}


def test_stop_words_go_and_the_rest_keeps_its_place_and_punctuation() -> None:
    how = TextAugmentation(1, 0, 0, 0)
    assert set(many(CAPTION, how, 20)) == {"big dog runs, dog sleeps near zyzzyva."}
    assert augmented("It is not of the", np.random.default_rng(0), how) == "It is not of the"


def test_one_word_is_exchanged_wherever_it_stands() -> None:
    found = Counter(many(CAPTION, TextAugmentation(0, 1, 0, 0)))
    table = words_of().synonyms
    wanted = {CAPTION.replace(word, synonym) for word in ("big", "dog", "runs", "near") for synonym in table[word]}
    assert set(found) == wanted and len(wanted) >= 8
    hounds = augmented("Dog", np.random.default_rng(0), TextAugmentation(0, 1, 0, 0))
    assert hounds in {"Hound", "Canine"}
    assert augmented("qwxz", np.random.default_rng(0), TextAugmentation(0, 1, 0, 0)) == "qwxz"


def test_two_words_are_swapped() -> None:
    words = ["one", "two", "three", "four"]
    found = set(many(" ".join(words), TextAugmentation(0, 0, 1, 0)))
    assert len(found) == 6  # every pair
    for text in found:
        moved = [i for i, word in enumerate(text.split()) if word != words[i]]
        assert len(moved) == 2 and sorted(text.split()) == sorted(words)
    assert augmented("one", np.random.default_rng(0), TextAugmentation(0, 0, 1, 0)) == "one"


def test_a_tenth_of_the_words_is_deleted_and_one_always_stays() -> None:
    caption = " ".join(f"w{i}" for i in range(20))
    lengths = [len(text.split()) for text in many(caption, TextAugmentation(0, 0, 0, 1))]
    assert 17.5 < np.mean(lengths) < 18.5
    everything = many("one two three", TextAugmentation(0, 0, 0, 1, deleted=1))
    assert set(everything) == {"one", "two", "three"}


def test_changes_come_as_often_as_they_should_and_never_two_at_once() -> None:
    caption = "dog x y z"
    how = TextAugmentation(stop_words=0)
    draws = 2000
    kinds = Counter()
    for text in many(caption, how, draws):
        words = text.split()
        if sorted(words) == sorted(caption.split()):
            kinds["same" if text == caption else "swap"] += 1
        elif len(words) == 4:
            assert words[1:] == ["x", "y", "z"]
            kinds["synonym"] += 1
        else:
            kinds["delete"] += 1
    assert kinds["synonym"] / draws == pytest.approx(0.4, abs=0.04)
    assert kinds["swap"] / draws == pytest.approx(0.4, abs=0.04)
    assert (kinds["delete"] + kinds["same"]) / draws == pytest.approx(0.2, abs=0.04)
    dropped = [text for text in many("the dog", TextAugmentation(0.8, 0, 0, 0), draws) if text == "dog"]
    assert len(dropped) / draws == pytest.approx(0.8, abs=0.04)


@given(st.text(max_size=40), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_never_empty_and_a_function_of_the_generator_alone(caption: str, seed: int) -> None:
    how = TextAugmentation(deleted=0.9)
    first, second = (augmented(caption, np.random.default_rng(seed), how) for _ in range(2))
    assert first == second
    assert bool(first.split()) == bool(caption.split())


def test_the_table_has_no_word_that_stands_for_itself_or_is_dropped_anyway() -> None:
    table = words_of()
    assert len(table.synonyms) > 600 and len(table.stop) > 100
    assert all(word not in others and len(set(others)) == len(others) for word, others in table.synonyms.items())
    assert all(word in table.synonyms[other] for word, others in table.synonyms.items() for other in others)
    assert not table.stop & table.synonyms.keys()


def test_a_file_of_ones_own_adds_to_the_table(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text('{"synonyms": [["dog", "Woofer"]], "stop_words": ["big"]}')
    table = words_of(str(path))
    assert table.synonyms["dog"] == (*words_of().synonyms["dog"], "woofer") and table.synonyms["woofer"] == ("dog",)
    how = TextAugmentation(1, 0, 0, 0, words=str(path))
    assert augmented("the big dog", np.random.default_rng(0), how) == "dog"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"synonyms": ["dog"], "x": 1}', '{"synonyms": 3}', '{"stop_words": [1]}']
)
def test_a_file_that_is_no_table_is_one_sentence(content: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"wrong\.json is no"):
        words_of(str(path))
    with pytest.raises(DataError, match="no table of words at"):
        words_of(str(tmp_path / "nowhere.json"))


def test_settings_are_plain_values_and_checked() -> None:
    how = TextAugmentation(0.5, 0.1, 0.2, 0.3)
    assert from_plain(TextAugmentation, to_plain(how)) == how
    with pytest.raises(ConfigError, match=r"swap 1\.2 must be in"):
        TextAugmentation(swap=1.2)
    with pytest.raises(ConfigError, match=r"add up to 1\.4: one of them is made"):
        TextAugmentation(synonym=0.8)
