"""Captions told to a language model before it is asked."""

from __future__ import annotations

from diptych.data.derived.caption_as_context import CaptionAsContext
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes


def test_captions_are_said_told_or_left_out() -> None:
    whole = Scenes("train", 40, SceneConfig(32, 2))
    source = CaptionAsContext(whole, "what is there?")
    kinds = {"said": 0, "told": 0, "left out": 0}
    for index in range(40):
        one, was = source[index], whole[index]
        assert one.visuals == () and one.key == was.key
        if one.turns == was.turns:
            kinds["left out"] += 1
        elif one.turns[0].text == "what is there?":
            kinds["said"] += one.turns[1].text == was.texts[0]
        else:
            told = f"{was.texts[0]}\n{was.turns[0].text}"
            kinds["told"] += one.turns[0].text == told and one.turns[1:] == was.turns[1:]
    assert sum(kinds.values()) == 40 and kinds["told"] > kinds["said"] > 3 and kinds["left out"] > 3


def test_the_fingerprint_is_of_source_and_prompt() -> None:
    whole = Scenes("train", 40, SceneConfig(32, 2))
    found = {
        whole.fingerprint(),
        *(CaptionAsContext(whole, prompt).fingerprint() for prompt in ("what?", "what is there?")),
    }
    assert len(found) == 3
