"""The official rule by hand, and by counting as it is published; normalisation by known cases."""

from itertools import product

import pytest

from diptych.core.errors import DataError
from diptych.evaluation.metrics.vqa_accuracy import accuracy_of_all, normalised, soft_accuracy, without_marks


def by_leaving_out(answer: str, people: list[str]) -> float:
    """The published sentence, as it is read."""
    shares = []
    for left_out in range(len(people)):
        others = people[:left_out] + people[left_out + 1 :]
        shares.append(min(1.0, others.count(answer) / 3))
    return sum(shares) / len(shares)


@pytest.mark.parametrize("same", range(11))
def test_every_number_of_people_who_agree(same: int) -> None:
    people = ["red"] * same + ["blue"] * (10 - same)
    assert soft_accuracy("red", people) == pytest.approx(by_leaving_out("red", people))
    assert accuracy_of_all("red", people) == pytest.approx(min(1, same / 3))


def test_known_values() -> None:
    def agreeing(n: int) -> list[str]:
        return ["red"] * n + [f"other{i}" for i in range(10 - n)]

    found = {n: soft_accuracy("red", agreeing(n)) for n in (0, 1, 2, 3, 4, 10)}
    assert found == {n: pytest.approx(v) for n, v in {0: 0, 1: 0.3, 2: 0.6, 3: 0.9, 4: 1, 10: 1}.items()}
    assert accuracy_of_all("red", agreeing(3)) == 1.0  # the simpler rule is another number


def test_all_mixtures_of_a_few_people() -> None:
    for people in product(("a1", "b1", "c1"), repeat=5):
        for answer in ("a1", "b1", "x1"):
            assert soft_accuracy(answer, people) == pytest.approx(by_leaving_out(answer, list(people)))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The two Dogs.", "2 dogs"),
        ("dont know", "don't know"),
        ("youre", "you're"),
        ("couldn'tve", "couldn't've"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("1,000", "1000"),  # a comma within a number
        ("red,blue", "red blue"),  # any other mark within a word parts it
        ("red, blue", "red blue"),
        ("black-white", "black white"),
        ("3.5", "3.5"),
        ("U.S.A.", "usa"),
        ("an apple\tand\na pear", "apple and pear"),
        ("none", "0"),
        ("it's", "it's"),
        ("a", ""),
    ],
)
def test_normalisation(text: str, plain: str) -> None:
    assert normalised(text) == plain


def test_what_the_official_evaluation_leaves_as_it_is() -> None:
    # All people said the same: nothing is normalised, on either side.
    assert soft_accuracy("yes.", ["yes"] * 10) == 0.0
    assert soft_accuracy("yes.", ["yes"] * 9 + ["no"]) == 1.0
    # Of people's answers only the punctuation goes.
    assert soft_accuracy("two", ["two"] * 9 + ["2"]) == pytest.approx(0.3)
    assert soft_accuracy("O.K.", ["o.k."] * 9 + ["fine"]) == pytest.approx(1.0)
    assert without_marks("The two") == "The two"


def test_few_references_are_right_or_wrong() -> None:
    assert soft_accuracy("A Red.", ["red"]) == 1.0
    assert soft_accuracy("two", ["2", "three"]) == 1.0
    assert soft_accuracy("four", ["2", "three"]) == 0.0
    with pytest.raises(DataError, match="without a single reference"):
        soft_accuracy("red", [])
