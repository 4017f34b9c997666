"""Words for the places of a text, from logits that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError, DiptychError
from diptych.data.words.cloze import word_ids
from diptych.data.words.tokenizer import Tokenizer
from diptych.models._fill_text import Places, fill_text

TEXTS = ("a red ball", "a blue ball", "a green ball on the table", "an orange")
TOKENIZER = Tokenizer.fit(TEXTS * 5, 400, mask=True)
RED, BLUE, GREEN = ([*word_ids(TOKENIZER, word)] for word in ("red", "blue", "green"))


class Fixed:
    """A model that gives each vocabulary entry the same logit at every place, but for a few."""

    def __init__(self, logits: dict[int, float], by_place: tuple[dict[int, float], ...] = ()) -> None:
        self.logits, self.by_place = logits, by_place
        self.asked: list[Places] = []

    def __call__(self, places: Places) -> Tensor:
        self.asked.append(places)
        out = torch.zeros(*places.places_NM.shape, TOKENIZER.vocab_size)
        for index, value in self.logits.items():
            out[..., index] = value
        for place, logits in enumerate(self.by_place[: out.shape[1]]):
            for index, value in logits.items():
                out[:, place, index] = value
        return out


def test_the_words_are_whole_tokens_here() -> None:
    assert len(RED) == len(BLUE) == len(GREEN) == 1


def test_the_likeliest_token_is_taken_and_never_a_control_token() -> None:
    control = dict.fromkeys(TOKENIZER.control_ids, 9.0)
    assert fill_text(TOKENIZER, 16, ["a [MASK] ball"], None, Fixed(control | {BLUE[0]: 5.0})) == [["blue"]]


def test_places_are_those_of_the_mask_tokens_in_order() -> None:
    model = Fixed({}, ({RED[0]: 5.0}, {GREEN[0]: 5.0}))
    assert fill_text(TOKENIZER, 16, ["a [MASK] [MASK] ball"], None, model) == [["red", "green"]]
    (places,) = model.asked
    assert places.places_NM.tolist() == [[2, 3]]  # after the start token and "a"
    assert places.tokens_NT[0, places.places_NM[0]].tolist() == [TOKENIZER.mask_id] * 2


def test_texts_with_unlike_numbers_of_places_go_together() -> None:
    model = Fixed({RED[0]: 5.0})
    texts = ["a [MASK]", "no place", "[MASK] [MASK] [MASK] on the table"]
    assert fill_text(TOKENIZER, 16, texts, None, model) == [["red"], [], ["red"] * 3]
    assert model.asked[0].texts_N == [0, 2]
    assert fill_text(TOKENIZER, 16, ["no place"], None, model) == [[]]
    assert fill_text(TOKENIZER, 16, [], None, model) == []


def test_of_choices_the_likeliest_is_taken_whatever_is_likeliest_of_all() -> None:
    model = Fixed({RED[0]: 1.0, BLUE[0]: 2.0, GREEN[0]: 5.0})
    texts, choices = ["a [MASK] ball", "a [MASK]"], [("red", "blue"), ("green", "red")]
    assert fill_text(TOKENIZER, 16, texts, choices, model) == [["blue"], ["green"]]


def test_a_word_of_several_tokens_is_scored_by_its_mean_log_probability_over_as_many_masks() -> None:
    long = word_ids(TOKENIZER, "zebra")
    assert len(long) > 1 and len(set(long)) == len(long)
    total = math.log(TOKENIZER.vocab_size - len(long) + sum(math.exp(3.0) for _ in long))

    def answer(red: float) -> list[list[str]]:
        model = Fixed(dict.fromkeys(long, 3.0) | {RED[0]: red})
        found = fill_text(TOKENIZER, 32, ["a [MASK] ball"], [("red", "zebra")], model)
        assert sorted(places.tokens_NT.eq(TOKENIZER.mask_id).sum(1).tolist() for places in model.asked) == [
            [1, len(long)]
        ]
        return found

    assert total > 0  # the same for both: what decides is the mean logit, 3 of the long word's tokens
    assert answer(2.9) == [["zebra"]]
    assert answer(3.1) == [["red"]]


def test_each_of_several_places_is_filled_with_a_long_word_of_its_own() -> None:
    long = word_ids(TOKENIZER, "zebra")
    first = tuple({index: 5.0} for index in long)
    model = Fixed({RED[0]: 0.5}, first)  # the first place's tokens spell it; at the second nothing does
    texts, choices = ["[MASK] and [MASK]"], [("zebra", "red")]
    assert fill_text(TOKENIZER, 40, texts, choices, model) == [["zebra", "red"]]


def test_bad_questions_are_refused() -> None:
    model = Fixed({})
    with pytest.raises(DiptychError, match="shorten it"):
        fill_text(TOKENIZER, 6, ["a [MASK] ball on the table"], None, model)
    with pytest.raises(DiptychError, match="list of choices for each text: got 1 for 2"):
        fill_text(TOKENIZER, 16, ["a [MASK]", "b"], [("red",)], model)
    for bad in ((), ("red", " ")):
        with pytest.raises(DiptychError, match=r"the choices for 'a .MASK.' must be words"):
            fill_text(TOKENIZER, 16, ["a [MASK]"], [bad], model)
    with pytest.raises(ConfigError, match="no mask token"):
        fill_text(Tokenizer.fit(TEXTS, 300), 16, ["a [MASK]"], None, model)
