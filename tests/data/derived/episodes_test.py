"""Episodes: kinds, words and pictures in their order; nothing but the pictures tells which word is right."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from diptych.core.errors import ConfigError, DataError
from diptych.core.visual import Image
from diptych.data.derived.episodes import EpisodeConfig, Episodes, kind_of
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.chat import IMAGE
from diptych.data.words.pseudowords import draw_pseudowords, pseudowords

WHOLE = Scenes("train", 200, SceneConfig(32, 1, words=0.0))
BY_NAME = {WHOLE[index].image.name: WHOLE[index] for index in range(200)}
CONFIG = EpisodeConfig(ways=3, shots=2, queries=2, by="class", pool=200)


def test_every_picture_is_named_by_the_word_of_its_kind() -> None:
    source = Episodes(WHOLE, CONFIG, 40)
    lasts = Counter[int]()
    for index in range(40):
        sample = source[index]
        words, kinds, ways = sample.meta["words"], sample.meta["kinds"], sample.meta["ways"]
        assert len(set(words)) == len({word[0] for word in words}) == len(set(kinds)) == 3
        assert Counter(ways[:6]) == {0: 2, 1: 2, 2: 2} and len(ways) == 8
        images = [visual for visual in sample.visuals if isinstance(visual, Image)]
        assert len({image.name for image in images}) == 8, "a picture is shown twice"
        assert [BY_NAME[image.name].meta["class"] for image in images] == [kinds[way] for way in ways]
        text = "".join(turn.text for turn in sample.turns).replace(f"{IMAGE}\nthis is a", "|").replace(" ", "")
        assert text == "".join(f"|{words[way]}" for way in ways)
        lasts[ways[-1]] += 1
    assert min(lasts[way] for way in range(3)) > 5
    again = Episodes(WHOLE, CONFIG, 40)
    assert [again[7].turns, again[7].meta] == [source[7].turns, source[7].meta] and len(set(source.keys())) == 40


def test_told_episodes_say_captions_that_name_the_kind_in_the_place_of_pictures() -> None:
    config = EpisodeConfig(by="present", pool=200, queries=1)
    shown, told = Episodes(WHOLE, config, 10), Episodes(WHOLE, config, 10, told=True)
    for index in range(10):
        one, other = shown[index], told[index]
        assert other.visuals == () and other.meta == one.meta and IMAGE not in other.turns[1].text
        text = f"{other.turns[0].text} {other.turns[1].text}"
        for way in other.meta["ways"]:
            _, found, text = text.partition(f"{other.meta['kinds'][way]}\nthis is a {other.meta['words'][way]}")
            assert found
        assert not text
    assert shown.fingerprint() != told.fingerprint()


def test_words_of_the_two_shares_have_none_in_common() -> None:
    train, test = set(pseudowords("train")), set(pseudowords("test"))
    assert not train & test and 0.15 < len(test) / len(train | test) < 0.25
    source = Episodes(WHOLE, CONFIG, 40)
    said = {word for index in range(40) for word in source[index].meta["words"]}
    assert said <= train
    with pytest.raises(ConfigError, match="16 invented words"):
        draw_pseudowords("test", 16, np.random.default_rng(0))


def test_facts_that_are_no_kind() -> None:
    sample = WHOLE[0]
    assert kind_of(sample, "class") == sample.meta["objects"][0]["shape"]
    assert kind_of(sample, "present") == sample.meta["present"][0]
    assert kind_of(sample, "absent") is None and kind_of(sample, "nothing") is None  # several, and none
    with pytest.raises(DataError, match="has 0 kinds by 'nothing'"):
        Episodes(WHOLE, EpisodeConfig(by="nothing"), 4)
    with pytest.raises(DataError, match="an episode of 7 ways needs as many"):
        Episodes(WHOLE, EpisodeConfig(ways=7), 4)
    with pytest.raises(ConfigError, match="2 or more ways"):
        EpisodeConfig(ways=1)
