"""Captions said in a row."""

from __future__ import annotations

from dataclasses import replace

from diptych.core.sample import Sample
from diptych.data.derived.caption_pairs import CaptionPairs
from diptych.data.scenes.source import Scenes


def test_each_caption_is_followed_by_the_next_and_nothing_else_changes() -> None:
    whole = Scenes("train", 5)
    told = CaptionPairs(whole)
    assert len(told) == 5 and told.keys() == whole.keys() and told.fingerprint() != whole.fingerprint()
    sample, again = whole[3], told[3]
    assert again.texts[0] == f"{sample.texts[0]}. {sample.texts[1]}."
    assert again.texts[-1] == f"{sample.texts[-1]}. {sample.texts[0]}." and len(again.texts) == len(sample.texts)
    assert again.key == sample.key and again.image.name == sample.image.name


def test_a_lone_caption_stays() -> None:
    class One(Scenes):
        def __getitem__(self, index: int) -> Sample:
            return replace(super().__getitem__(index), texts=("a dog.", " "))

    assert CaptionPairs(One("train", 1))[0].texts == ("a dog.", " ")
