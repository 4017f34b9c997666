"""Files of conversations in every form, and what is wrong with some of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Turn
from diptych.data.open import open_source
from diptych.data.pixels.decode import decode
from diptych.data.sources.conversations import ConversationFile
from diptych.data.sources.table import TableSource

LLAVA = {
    "id": "7", "image": "pictures/a.png",
    "conversations": [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A square."}],
}  # fmt: skip
SHAREGPT = {
    "id": "8", "images": ["pictures/a.png", "pictures/b.png"],
    "conversations": [{"from": "system", "value": "Be brief."}, {"from": "user", "value": "<image> or <image>?"},
                      {"from": "chatgpt", "value": "The second."}],
}  # fmt: skip
FACE = {
    "messages": [
        {"role": "user", "content": [{"type": "image", "path": "pictures/b.png"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A square."}]},
    ]
}
WORDS = {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]}


def write(folder: Path, records: Any, name: str = "talk.json") -> Path:
    (folder / "pictures").mkdir(exist_ok=True)
    for number, picture in enumerate(("a", "b")):
        PIL.Image.fromarray(np.full((8, 8, 3), 100 + number, np.uint8)).save(folder / "pictures" / f"{picture}.png")
    path = folder / name
    lines = name.endswith("jsonl")
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["talk.json", "talk.jsonl"])
def test_every_form_becomes_turns_and_pictures(tmp_path: Path, name: str) -> None:
    source = open_source(str(write(tmp_path, [LLAVA, SHAREGPT, FACE, WORDS], name)))
    assert isinstance(source, ConversationFile) and source.keys() == ["7", "8", "talk-00000003", "talk-00000004"]
    first, second, third, fourth = (source[index] for index in range(4))
    assert first.turns == (Turn("user", "<image>\nWhat is this?"), Turn("assistant", "A square."))
    assert [turn.role for turn in second.turns] == ["system", "user", "assistant"]
    assert third.turns[0].text == "<image>\nWhat?" and fourth.visuals == ()
    values = [[int(decode(image, "x")[0, 0, 0]) for image in one.visuals] for one in (first, second, third)]  # type: ignore[arg-type]
    assert values == [[100], [100, 101], [101]]


def test_a_name_that_comes_twice_stands_for_two(tmp_path: Path) -> None:
    source = ConversationFile(write(tmp_path, [LLAVA, LLAVA]))
    assert source.keys() == ["7", "7#2"] and len(source) == 2


def test_the_fingerprint_is_of_words_and_pictures(tmp_path: Path) -> None:
    path = write(tmp_path, [LLAVA])
    first = ConversationFile(path).fingerprint()
    assert ConversationFile(path).fingerprint() == first
    other = json.loads(json.dumps(LLAVA))
    other["conversations"][1]["value"] = "A circle."
    assert ConversationFile(write(tmp_path, [other])).fingerprint() != first


def test_lines_of_captions_are_still_a_table(tmp_path: Path) -> None:
    path = write(tmp_path, [{"image": "pictures/a.png", "caption": "grey"}], "captions.jsonl")
    assert isinstance(open_source(str(path)), TableSource)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "nobody here is called 'narrator'"),
        ({"conversations": ["hello"]}, "a turn is 'hello'"),
        ({"conversations": [{"from": "human", "value": None}]}, "a part of a turn is 'None'"),
        ({"image": "pictures/gone.png"}, "missing image"),
    ],
)
def test_a_record_that_cannot_be_used_is_a_bad_sample(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    source = ConversationFile(write(tmp_path, [LLAVA | change]))
    with pytest.raises(BadSample, match=said):
        source[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "truncated or not JSON"), ("{}", "no list of records"), ("[]", "holds no conversations"),
        ('[{"image": "a.png"}]', "record 1 has neither conversations nor messages"),
    ],
)  # fmt: skip
def test_files_that_hold_none_say_so(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "talk.json").write_text(text)
    with pytest.raises(DataError, match=said):
        open_source(str(tmp_path / "talk.json"))
