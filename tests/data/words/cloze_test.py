"""Texts with places to fill in."""

from pathlib import Path

import pytest

from diptych.core.errors import ConfigError, DiptychError
from diptych.data.words.cloze import cloze_ids, word_ids
from diptych.data.words.tokenizer import Tokenizer

TOKENIZER = Tokenizer.fit(["a red circle left of a blue square"] * 3, 320, mask=True)


def test_the_words_around_a_place_are_what_they_are_in_a_whole_text() -> None:
    (whole,) = TOKENIZER.encode(["a red circle"], 20)
    red = word_ids(TOKENIZER, "red")
    at = len(word_ids(TOKENIZER, "a")) + 1
    found = cloze_ids(TOKENIZER, "a [MASK] circle", 20, pieces=len(red))
    assert found == [*whole[:at], *[TOKENIZER.mask_id] * len(red), *whole[at + len(red) :]]
    assert cloze_ids(TOKENIZER, "a red circle", 20) == whole
    assert cloze_ids(TOKENIZER, "[MASK]", 20) == [TOKENIZER.start_id, TOKENIZER.mask_id, TOKENIZER.end_id]


def test_what_cannot_be_filled_is_refused() -> None:
    with pytest.raises(DiptychError, match="of which 4 fit"):
        cloze_ids(TOKENIZER, "a [MASK] circle", 4, pieces=3)
    with pytest.raises(ConfigError, match="no mask token"):
        cloze_ids(Tokenizer.fit(["a"], 300), "a [MASK]", 9)


def test_the_mask_token_survives_a_file(tmp_path: Path) -> None:
    TOKENIZER.write(tmp_path / "tokenizer.json")
    again = Tokenizer.read(tmp_path / "tokenizer.json")
    assert (again.mask_id, again.control_ids) == (TOKENIZER.mask_id, TOKENIZER.control_ids)
    assert again.encode(["a <mask> b"], 30)[0].count(3) == 0  # spelled out, it is plain text
