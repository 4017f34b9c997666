"""One caption told, another said."""

from __future__ import annotations

from collections import Counter

from diptych.data.derived.caption_to_caption import CaptionToCaption
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes

WHOLE = Scenes("train", 60, SceneConfig(32, 1, words=0.0))


def test_a_caption_is_told_and_one_is_said() -> None:
    source, said = CaptionToCaption(WHOLE), Counter[int]()
    for index in range(60):
        one, was = source[index], WHOLE[index]
        assert one.visuals == () and one.key == was.key and one.turns[0].text == was.texts[0]
        said[was.texts.index(one.turns[1].text)] += 1
    assert len(said) == 5
