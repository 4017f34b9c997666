import pytest

from diptych.evaluation.answers.lettered import lettered, read_letter

OPTIONS = ("a dog", "two", "hot dog", "apple pie")


def test_the_prompt() -> None:
    assert lettered("What is it?", ["red", "blue"], "Answer with a letter.") == (
        "What is it?\nA. red\nB. blue\nAnswer with a letter."
    )
    assert lettered("What is it?", ["red"], "") == "What is it?\nA. red"


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("B", "two"),
        ("b)", "two"),
        (" (C) because", "hot dog"),
        ("D. apple pie", "apple pie"),
        ("The answer is B.", "two"),
        ("Answer: (C)", "hot dog"),
        ("Two.", "two"),
        ("a dog", "a dog"),
        ("It is a hot dog.", "hot dog"),
        ("A hot dog", "hot dog"),  # an article, and a longer option than "a dog"
        ("There are two of them", "two"),
        ("A or B", None),
        ("E", None),
        ("nothing of it", None),
        ("two apple pies and a dog", None),
        ("", None),
    ],
)
def test_reading(answer: str, read: str | None) -> None:
    assert read_letter(answer, OPTIONS) == read
