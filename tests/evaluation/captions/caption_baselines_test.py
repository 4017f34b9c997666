"""Captions without a captioner, against brute force."""

import math
import random

import numpy as np
import pytest
import torch

from diptych.core.errors import DataError
from diptych.evaluation.captions.baselines import consensus_captions, nearest_captions, typical_caption
from diptych.evaluation.metrics.captioning import caption_scores, caption_values

DRAW = random.Random(3)
SAID = [
    [f"a {DRAW.choice(['red', 'blue', 'old'])} {DRAW.choice(['dog', 'cat', 'car'])} {DRAW.choice(['runs', 'sits'])}"
     f"{DRAW.choice(['', ' on grass', ' in the deep snow'])}" for _ in range(3)]
    for _ in range(25)
]  # fmt: skip


def test_the_typical_caption_is_the_best_to_say_of_everything() -> None:
    found = typical_caption(SAID)
    texts = sorted({text for said in SAID for text in said})
    scores = {text: caption_scores([text] * len(SAID), SAID)["cider"] for text in texts}
    assert found in texts
    assert scores[found] == max(scores.values())


def test_the_nearest_picture_gives_its_first_caption() -> None:
    other_MD = torch.eye(3)
    image_ND = torch.tensor([[0.1, 5.0, 0.0], [0.6, 0.6, 0.1], [0.0, 0.0, 1.0]])
    said = [["first", "more"], ["second"], ["third"]]
    assert nearest_captions(image_ND, other_MD, said) == ["second", "first", "third"]


def test_the_consensus_is_the_caption_most_like_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    other_MD, image_ND = torch.randn(25, 8, generator=generator), torch.randn(6, 8, generator=generator)
    cosine_NM = torch.nn.functional.normalize(image_ND) @ torch.nn.functional.normalize(other_MD).T
    for caption, cosine_M in zip(consensus_captions(image_ND, other_MD, SAID, 4), cosine_NM, strict=True):
        pool = [text for index in cosine_M.argsort(descending=True)[:4].tolist() for text in SAID[index]]
        likeness = [slow_likeness(i, pool) for i in range(len(pool))]
        assert caption in pool
        assert max(likeness) == pytest.approx(max(x for x, text in zip(likeness, pool, strict=True) if text == caption))
        assert max(likeness) > min(likeness) + 0.5


def weights(text: str, n: int) -> dict[tuple[str, ...], float]:
    """Counts of n-grams times log of all pictures over those that they are said of."""

    def grams(one: str) -> list[tuple[str, ...]]:
        words = one.split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    found: dict[tuple[str, ...], float] = {}
    for gram in grams(text):
        said_of = sum(any(gram in grams(one) for one in said) for said in SAID)
        found[gram] = found.get(gram, 0.0) + math.log(len(SAID) / said_of)
    return found


def slow_likeness(index: int, pool: list[str]) -> float:
    """The summed likeness of a caption with every other: cosines of four orders, less where the lengths differ."""
    total = 0.0
    for at, other in enumerate(pool):
        for n in range(1, 5) if at != index else ():
            a, b = weights(pool[index], n), weights(other, n)
            norms = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
            apart = len(pool[index].split()) - len(other.split())
            if norms:
                total += sum(a[gram] * b.get(gram, 0.0) for gram in a) / norms * math.exp(-(apart**2) / 72) / 4
    return total


def test_alone_in_its_neighbourhood_a_caption_is_said() -> None:
    vectors = torch.eye(2)
    assert consensus_captions(vectors, vectors, [["a dog"], ["a cat"]], 1) == ["a dog", "a cat"]
    said = [["a dog runs", "a dog runs fast", "snow"], ["a cat", "the cat", "a cat sits"]]
    assert consensus_captions(vectors[:1], vectors, said, neighbours=1) == ["a dog runs"]


def test_what_does_not_fit_together_is_said() -> None:
    with pytest.raises(DataError, match="2 pictures and captions of 1"):
        nearest_captions(torch.eye(2), torch.eye(2), [["a"]])
    with pytest.raises(DataError, match="give each one caption or more"):
        consensus_captions(torch.eye(2), torch.eye(2), [["a"], []])
    assert np.isfinite(caption_values(["a"] * 25, SAID)["cider"]).all()
