"""The judge's prompt and how its ratings are read."""

import re

import pytest

from diptych.core.errors import ConfigError, DataError
from diptych.evaluation.answers.lave import (
    BINARY,
    DEMONSTRATIONS,
    Lave,
    asks_yes_or_no,
    judge_prompt,
    kept_references,
    prompt_hash,
    read_rating,
    score_of,
)  # fmt: skip


@pytest.mark.parametrize(
    ("output", "rating"),
    [
        ("People agree. So rating=3", 3),
        ("so the rating is 1.", 1),
        ("Rating: 2", 2),
        ("RATING = 3", 3),
        ("rating=3 rating=3", 3),
        ("3", 3),
        (" (2). ", 2),
        ("rating=1, or rather rating=3", None),
        ("rating=5", None),
        ("rating=10", None),
        ("rating=2.5", None),
        ("two of three people", None),
        ("There are 3 dogs", None),
        ("", None),
    ],
)
def test_reading(output: str, rating: int | None) -> None:
    assert read_rating(output) == rating


def test_scores() -> None:
    assert [score_of(rating) for rating in (1, 2, 3, None)] == [0.0, 0.5, 1.0, 0.5]


def test_what_few_people_said_is_left_out() -> None:
    said = ["red"] * 8 + ["pink"] * 2 + ["rose"] * 3
    assert kept_references(said) == ["red"] * 8 + ["rose"] * 3  # 2 / 8 is a quarter, and goes
    assert kept_references(["b", "a"]) == ["a", "b"]
    with pytest.raises(DataError, match="cannot be rated"):
        kept_references([])


def test_the_prompt() -> None:
    whole = judge_prompt("Which colour?", ["red", "red"], "scarlet", 2)
    parts = whole.split("\n\n")
    assert len(parts) == 4
    assert parts[1].endswith("A notebook computer is a laptop. So rating=3")
    assert parts[3] == "Question: 'Which colour?'\nAnswers of people: 'red', 'red'\nCandidate: 'scarlet'\nOutput:"
    assert judge_prompt("Q", ["a"], "c", 0).count("Output:") == 1
    binary = judge_prompt("Is it?", ["yes", "Yes.", "yes"], "no", 8)
    assert asks_yes_or_no(["Yes.", "no", "Yes."]) and not asks_yes_or_no(["red"])
    assert BINARY[0].question in binary and DEMONSTRATIONS[0].question not in binary


def test_the_demonstrations_are_rated_as_the_task_says() -> None:
    assert len(DEMONSTRATIONS) == len(BINARY) == 8
    for one in (*DEMONSTRATIONS, *BINARY):
        assert 1 <= one.rating <= 3 and one.reason.endswith(".") and not re.search("[1-3]", one.reason)
    assert {one.rating for one in DEMONSTRATIONS} == {one.rating for one in BINARY} == {1, 2, 3}
    assert all(asks_yes_or_no(one.references) for one in BINARY)
    assert all(one.rating == 1 for one in BINARY if one.candidate not in ("yes", "no"))


def test_the_hash_is_of_what_the_judge_reads() -> None:
    assert prompt_hash(8) == prompt_hash(8) != prompt_hash(7)


class Fixed:
    def write(self, prompt: str) -> str:
        return f"It has {prompt.count('Candidate')} candidates. rating=3"

    def described(self) -> dict[str, str]:
        return {"model": "fixed"}


def test_a_judge_with_its_prompt() -> None:
    lave = Lave(Fixed(), 3)
    said, values = lave.rated("Which?", ["red"], "scarlet")
    assert said == "It has 4 candidates. rating=3" and values == {"lave": 1.0, "lave_unread": 0.0}
    assert lave.described() == {"model": "fixed", "prompt": prompt_hash(3), "examples": "3"}
    with pytest.raises(ConfigError, match="there are 0 to 8"):
        Lave(Fixed(), 9)
