from pathlib import Path

import pytest

from diptych.evaluation.metrics.object_mentions import Vocabulary, read_synonyms, singular

SYNONYMS = """
person, man, baby, passenger, adult
dog, puppy
hot dog
train
elephant
chair, seat
toilet, potty
tie, bow tie
wine glass
skis, ski
oven, stove top oven
"""
WORDS = Vocabulary(read_synonyms(SYNONYMS))


@pytest.mark.parametrize(
    ("plural", "one"),
    [("dogs", "dog"), ("benches", "bench"), ("glasses", "glass"), ("berries", "berry"), ("knives", "knife"),
     ("men", "man"), ("buses", "bus"), ("horses", "horse"), ("boxes", "box"), ("tomatoes", "tomato"), ("bus", "bus"),
     ("glass", "glass"), ("tennis", "tennis"), ("ties", "tie"), ("vases", "vase"), ("couches", "couch")],
)  # fmt: skip
def test_singular(plural: str, one: str) -> None:
    assert singular(plural) == one


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("Two puppies and a Man.", ["dog", "person"]),
        ("a hot dog beside dogs", ["hot dog", "dog"]),
        ("hot dogs", ["hot dog"]),
        ("a baby elephant and a baby", ["elephant", "person"]),
        ("an adult cub", []),  # an animal that is none of these objects, and no person
        ("a passenger train", ["train"]),
        ("a toilet seat", ["toilet"]),
        ("a toilet with its seat up", ["toilet"]),
        ("a seat", ["chair"]),
        ("a bow tie", ["tie"]),
        ("wine glasses", ["wine glass"]),
        ("on skis, on a ski", ["skis", "skis"]),
        ("a stove top oven", ["oven"]),
        ("manly dogma", []),
        ("", []),
    ],
)
def test_mentions(caption: str, named: list[str]) -> None:
    assert WORDS.mentions(caption) == named


def test_names_of_the_vocabulary() -> None:
    assert WORDS.of("wine glass") == "wine glass" and WORDS.of("potty") == "toilet" and WORDS.of("zebra") is None
    shapes = Vocabulary({"red circle": [], "blue star": []})
    assert shapes.mentions("Three red circles on a blue star; a red star") == ["red circle"] * 1 + ["blue star"]


def test_chair_s_own_synonyms(shared_data: Path) -> None:
    path = shared_data / "eval" / "chair" / "synonyms.txt"
    if not path.is_file():
        pytest.skip(f"no synonyms at {path}")
    synonyms = read_synonyms(path.read_text("utf-8"))
    words = Vocabulary(synonyms)
    assert len(synonyms) == 80
    assert all(words.of(name) == name for name in synonyms)
    said = "A baby zebra near two fire hydrants, a woman on a motor bike with her laptop computer and a toilet seat."
    assert words.mentions(said) == ["zebra", "fire hydrant", "person", "motorcycle", "laptop", "toilet"]
