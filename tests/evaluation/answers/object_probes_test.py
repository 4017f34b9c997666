from diptych.core.sample import Box, Sample
from diptych.evaluation.answers.object_probes import objects_of, probes_of

PICTURES = {
    "a": frozenset({"cat", "dog"}),
    "b": frozenset({"cat", "dog", "cup"}),
    "c": frozenset({"cup", "table"}),
    "d": frozenset({"cup", "table", "cat"}),
    "e": frozenset({"tree"}),
    "f": frozenset({"tree"}),
    "g": frozenset({"tree"}),
    "h": frozenset({"tree", "sea"}),
}


def test_by_hand() -> None:
    found = probes_of(PICTURES, 1, seed=0)
    # How many pictures have it: tree 4, cat 3, cup 3, dog 2, table 2, sea 1.
    assert {key: one.absent["popular"] for key, one in found.items()} == {
        "a": ("tree",), "b": ("tree",), "c": ("tree",), "d": ("tree",),
        "e": ("cat",), "f": ("cat",), "g": ("cat",), "h": ("cat",),
    }  # fmt: skip
    # Beside a cat or a dog stands a cup (with the cat 2, with the dog 1); beside cup and table a cat (2 + 1).
    adversarial = {key: one.absent["adversarial"] for key, one in found.items()}
    assert adversarial["a"] == ("cup",) and adversarial["c"] == ("cat",) and adversarial["e"] == ("sea",)
    assert adversarial["d"] == ("dog",)  # beside the cat 2, beside the cup 1


def test_as_many_absent_as_present_and_truly_so() -> None:
    for seed in range(5):
        for key, one in probes_of(PICTURES, 3, seed).items():
            assert set(one.present) <= PICTURES[key]
            assert len(one.present) == min(3, len(PICTURES[key]))
            for names in one.absent.values():
                assert len(set(names)) == len(one.present) and not set(names) & PICTURES[key]
    draws = {probes_of(PICTURES, 1, seed)["b"].absent["random"] for seed in range(20)}
    assert draws == {("table",), ("tree",), ("sea",)}


def test_nothing_to_ask_for() -> None:
    assert probes_of({"a": frozenset(), "b": frozenset({"cat"})}, 2, 0) == {}
    everywhere = {"a": frozenset({"cat"}), "b": frozenset({"cat"})}
    assert probes_of(everywhere, 2, 0) == {}


def test_labels_of_boxes() -> None:
    sample = Sample("k", boxes=(Box(0, 0, 1, 1, " Dog"), Box(0, 0, 1, 1, "dog"), Box(0, 0, 1, 1)))
    assert objects_of(sample) == {"dog"}
