"""Hard negatives by rule: what each kind changes, what it leaves alone, and where it holds back."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.data.words.word_swaps import OBJECTS, RULES


def made(kind: str, caption: str, draws: int = 40) -> set[str | None]:
    return {RULES[kind](caption, np.random.default_rng(seed)) for seed in range(draws)}


@pytest.mark.parametrize(
    ("kind", "caption", "expected"),
    [
        ("swap_attribute", "A red ball under a blue table", {"A blue ball under a red table"}),
        ("swap_attribute", "an orange cat sits on a red chair", {"a red cat sits on an orange chair"}),
        ("swap_attribute", "two dogs chase three cats", {"three dogs chase two cats"}),
        ("swap_attribute", "a red ball under a big table", {None}),
        ("swap_attribute", "a red ball and a red hat", {None}),
        ("swap_attribute", "a red and blue ball", {None}),
        ("swap_object", "a man throws a ball", {"a ball throws a man"}),
        ("swap_object", "a man and a dog", {None}),
        ("swap_object", "Man with a dog", {None}),
        ("swap_object", "A dog bites a man, says a child", {"A man bites a dog, says a child",
            "A child bites a man, says a dog", "A dog bites a child, says a man"}),
        ("swap_relation", "a dog left of a cat", {"a dog right of a cat"}),
        ("swap_relation", "A cat in front of a house", {"A cat behind a house"}),
        ("swap_relation", "Under a tree", {"Over a tree"}),
        ("swap_relation", "a photo of a dog", {None}),
        ("replace_object", "a child", {f"a {word}" for word in OBJECTS[0] if word != "child"}),
        ("replace_object", "blue", {None}),
        ("order", "red ball", {None}),
        ("order", "a a a", {None}),
    ],
)  # fmt: skip
def test_each_kind_changes_what_it_says_and_holds_back_where_the_result_could_be_true(
    kind: str, caption: str, expected: set[str | None]
) -> None:
    assert made(kind, caption) == expected


def test_a_replacement_is_of_the_class_and_is_not_said_elsewhere() -> None:
    found = made("replace_attribute", "a red ball beside a blue ball", 200)
    assert None not in found and all(text is not None and text.startswith("a") for text in found)
    assert not any("red ball beside a red" in str(text) or "blue ball beside a blue" in str(text) for text in found)
    assert {"an orange ball beside a blue ball", "a red ball beside a green ball"} <= found


def test_shuffles_keep_the_words() -> None:
    found = made("order", "a dog runs on the beach")
    assert len(found) > 20
    assert {tuple(sorted(str(text).split())) for text in found} == {("a", "beach", "dog", "on", "runs", "the")}


def test_words_inside_words_are_left_alone() -> None:
    assert made("swap_relation", "an upset leftover sits") == {None}
    assert made("replace_object", "a cartoon mandolin") == {None}
