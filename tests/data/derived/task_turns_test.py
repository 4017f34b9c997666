"""Conversations by task: what each asks and answers, the shares, and samples that cannot be asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from contract import Held

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.visual import Box, Image
from diptych.data.derived.task_turns import TASKS, TaskTurns, conversations, grounded, phrases_of
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.box_text import read_boxes, read_named, without_boxes

PICTURE = Image(pixels_HWC=np.zeros((50, 100, 3), np.uint8))
SAMPLE = Sample(
    "k",
    (PICTURE,),
    ("a red cat and a large red cat", "two cats"),
    (Turn("user", "how many?"), Turn("assistant", "two")),
    (Box(0, 0, 50, 50, "red cat"), Box(50, 25, 100, 50, "large red cat")),
)


def test_every_task_of_a_sample() -> None:
    found = conversations(SAMPLE)
    assert {task: [(asks.text, says.text) for asks, says in talks] for task, talks in found.items()} == {
        "vqa": [("[vqa] how many?", "two")],
        "caption": [("[caption] describe the picture", text) for text in SAMPLE.texts],
        "refer": [("[refer] red cat", "{<0><0><50><100>}"), ("[refer] large red cat", "{<50><50><100><100>}")],
        "identify": [("[identify] {<0><0><50><100>}", "red cat"), ("[identify] {<50><50><100><100>}", "large red cat")],
        "grounding": [
            (
                "[grounding] describe the picture",
                "a <p>red cat</p> {<0><0><50><100>} and a <p>large red cat</p> {<50><50><100><100>}",
            )
        ],
    }


def test_what_is_there_twice_is_not_referred_to() -> None:
    twice = replace(SAMPLE, boxes=(*SAMPLE.boxes, Box(1, 1, 2, 2, "red cat")))
    assert set(phrases_of(twice)) == {"large red cat"}
    assert grounded(["a large red cat, a large red cat", "two cats"], phrases_of(twice)) == []


def test_scenes_say_what_is_drawn() -> None:
    """Every box of a grounded caption is that of the object which the phrase names."""
    whole = Scenes("train", 60, SceneConfig(48, 2, words=0.0))
    told = [(whole[index], text[1].text) for index in range(60) for text in conversations(whole[index])["grounding"]]
    assert len(told) > 50
    for sample, text in told:
        assert without_boxes(text) in sample.texts
        true = {box.label: box for box in sample.boxes}
        for phrase, box in read_named(text):
            there = box.in_pixels(48, 48)
            assert all(
                abs(getattr(there, name) - getattr(true[phrase], name)) < 0.25 for name in ("x0", "y0", "x1", "y1")
            )


def test_tasks_have_their_shares_and_rounds_are_other_draws() -> None:
    whole = Scenes("train", 400, SceneConfig(32, 2, words=0.0))
    source = TaskTurns(whole, (*TASKS, "refer"), rounds=2)
    assert len(source) == 800 == len(set(source.keys()))
    asked = [source[index].turns[0].text.partition(" ")[0] for index in range(800)]
    assert [source[index].key for index in (0, 400)] == [source.keys()[0], f"{source.keys()[0]}#1"]
    counts = Counter(asked)
    assert set(counts) == {f"[{task}]" for task in TASKS}
    assert 0.26 < counts["[refer]"] / 800 < 0.41 and all(0.1 < counts[f"[{task}]"] / 800 < 0.24 for task in TASKS[:2])
    assert asked[:400] != asked[400:]
    assert source.fingerprint() != TaskTurns(whole).fingerprint() != whole.fingerprint()
    boxes = [read_boxes(source[i].turns[1].text) for i in range(400) if asked[i] == "[refer]"]
    assert boxes and all(len(found) == 1 for found in boxes)


def test_samples_that_cannot_be_asked_are_named() -> None:
    bare = Sample("k1", (PICTURE,))
    wrong = replace(SAMPLE, key="k2", boxes=(Box(90, 0, 120, 9, "cat"),))
    source = TaskTurns(Held([bare, wrong]), ("refer", "caption"))
    with pytest.raises(BadSample, match="k1: no task"):
        source[0]
    with pytest.raises(BadSample, match=r"k2: bad box.*100 x 50 pixels"):
        source[1]
    with pytest.raises(ConfigError, match="0 tasks in 1 rounds"):
        TaskTurns(Held([bare]), ())
