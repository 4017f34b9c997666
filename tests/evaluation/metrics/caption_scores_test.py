"""Caption metrics: equal to the COCO server's, to cases computed by hand, and to a slow statement of the formulas."""

import math
import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from diptych.core.errors import DataError
from diptych.evaluation.metrics.caption_rouge import rouge_l
from diptych.evaluation.metrics.captioning import BLEU_NAMES, CaptionScorer, caption_scores, caption_values

NAMES = (*BLEU_NAMES, "rouge_l", "cider")
Corpus = tuple[list[str], list[list[str]]]


def corpus(seed: int, pictures: int = 40, words: int = 12) -> Corpus:
    """Captions of a few words that repeat; some candidates are empty, short, or say what no reference says."""
    draw = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(words)]
    say = lambda low: " ".join(draw.choices(vocabulary, range(words, 0, -1), k=draw.randint(low, 14)))  # noqa: E731
    references = [[say(1) for _ in range(draw.randint(1, 6))] for _ in range(pictures)]
    candidates = [draw.choice(said) if draw.random() < 0.3 else say(0) for said in references]
    candidates[:3] = ["", "new", f"new new {candidates[2]} unseen new"]
    return candidates, references


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_the_scorers_of_the_server(seed: int) -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    candidates, references = corpus(seed)
    truth = dict(enumerate(references))
    result = {index: [caption] for index, caption in enumerate(candidates)}
    bleu, bleu_each = Bleu(4).compute_score(truth, result, verbose=0)
    official = dict(zip(BLEU_NAMES, zip(bleu, bleu_each, strict=True), strict=True))
    official |= {"rouge_l": Rouge().compute_score(truth, result), "cider": Cider().compute_score(truth, result)}
    whole = caption_scores(candidates, references, str.split)
    each = caption_values(candidates, references, str.split)
    assert whole.keys() == each.keys() == official.keys()
    for name, (score, values) in official.items():
        assert whole[name] == pytest.approx(score, abs=1e-12), name
        assert each[name] == pytest.approx(np.array(values), abs=1e-12), name


def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def slow_cider(candidates: list[str], references: list[list[str]]) -> list[float]:
    """CIDEr-D as the paper writes it, dictionaries and loops."""
    scores = []
    for candidate, said in zip(candidates, references, strict=True):
        total = 0.0
        for n in range(1, 5):
            documents = Counter(gram for texts in references for gram in set().union(*(grams(t, n) for t in texts)))

            def weigh(text: str, n: int = n, documents: Counter[tuple[str, ...]] = documents) -> dict[object, float]:
                count = grams(text, n).items()
                return {gram: c * math.log(len(references) / max(1, documents[gram])) for gram, c in count}

            for reference in said:
                one, other = weigh(candidate), weigh(reference)
                product = sum(min(one[gram], other[gram]) * other[gram] for gram in one if gram in other)
                norms = math.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in other.values()))
                apart = max(len(candidate.split()) - 1, 0) - max(len(reference.split()) - 1, 0)
                if norms:
                    total += product / norms * math.exp(-(apart**2) / 72) / len(said) / 4
        scores.append(10 * total)
    return scores


def test_cider_is_the_published_formula() -> None:
    candidates, references = corpus(9, pictures=15)
    assert caption_values(candidates, references, str.split)["cider"] == pytest.approx(
        np.array(slow_cider(candidates, references)), abs=1e-9
    )


@pytest.mark.filterwarnings("ignore:CIDEr of one picture")
def test_bleu_by_hand() -> None:
    # Six of seven words would match "the" by counting; clipping leaves two. Closest reference: 7 and 6 tokens, so 7.
    found = caption_scores(["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]])
    assert found["bleu_1"] == pytest.approx(2 / 7, abs=1e-8)
    # 4 tokens against 5: all of 4, 3, 2 and 1 n-grams match, so only the brevity penalty exp(1 - 5 / 4) is left.
    found = caption_scores(["a dog runs fast"], [["a dog runs fast today"]])
    assert [found[name] for name in BLEU_NAMES] == pytest.approx([math.exp(-1 / 4)] * 4, abs=1e-8)
    # References of 3 and 5 are as close to 4: the shorter counts, so there is no penalty.
    assert caption_scores(["a b c d"], [["a b c", "a b c d e"]])["bleu_1"] == pytest.approx(1.0, abs=1e-8)


def test_bleu_of_a_corpus_is_of_the_sum_and_not_the_mean() -> None:
    candidates, references = ["a b", "c d e f g h"], [["a b"], ["x x x x x x"]]
    assert caption_scores(candidates, references)["bleu_1"] == pytest.approx(2 / 8, abs=1e-8)
    assert caption_values(candidates, references)["bleu_1"].mean() == pytest.approx(1 / 2, abs=1e-8)


def test_rouge_by_hand_and_by_brute_force() -> None:
    # Longest common subsequence "a b d": precision 3 / 4, recall 3 / 3.
    precision, recall = 3 / 4, 1.0
    expected = 2.44 * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(["a", "b", "c", "d"], [["a", "b", "d"]]) == pytest.approx(expected)
    draw = random.Random(0)
    for _ in range(200):
        one, other = (draw.choices("abcd", k=draw.randint(1, 8)) for _ in range(2))
        subsequences = {tuple(other[i] for i in at) for k in range(9) for at in combinations(range(len(other)), k)}
        common = max(
            k for k in range(len(one) + 1) if any(tuple(one[i] for i in at) in subsequences
                                                  for at in combinations(range(len(one)), k))
        )  # fmt: skip
        p, r = common / len(one), common / len(other)
        assert rouge_l(one, [other]) == pytest.approx(2.44 * p * r / (r + 1.44 * p) if common else 0.0)
    long = [str(i % 90) for i in range(300)]  # more tokens than a machine word has bits
    assert rouge_l(long, [long]) == pytest.approx(1.0)


def test_a_caption_that_is_a_reference_gets_all_and_an_empty_one_nothing() -> None:
    references = [["a red ball rolls away"], ["two dogs run on grass"], ["the old man sits down"]]
    perfect = caption_values([said[0] for said in references], references)
    for name in BLEU_NAMES:
        assert perfect[name] == pytest.approx(np.ones(3), abs=1e-8)
    assert perfect["rouge_l"] == pytest.approx(np.ones(3)) and perfect["cider"] == pytest.approx(np.full(3, 10.0))
    empty = caption_scores(["", " . ", ""], references)
    assert all(empty[name] == pytest.approx(0.0, abs=1e-12) for name in NAMES)
    mixed = caption_values(["", *(said[0] for said in references[1:])], references)
    assert all(mixed[name][0] == pytest.approx(0.0, abs=1e-12) and mixed[name][1] > 0.99 for name in NAMES)


def test_captions_scored_one_at_a_time_get_the_same() -> None:
    candidates, references = corpus(5)
    scorer = CaptionScorer(references, str.split)
    whole = scorer.values(candidates)
    order = random.Random(1).sample(range(len(candidates)), len(candidates))
    for some in (order[:7], order[7:8], order[8:]):
        part = scorer.values([candidates[i] for i in some], some)
        assert (part.bleu_counts_R10 == whole.bleu_counts_R10[some]).all()
        assert (part.rouge_l_R == whole.rouge_l_R[some]).all()
        assert part.cider_R == pytest.approx(whole.cider_R[some], abs=1e-12)


def test_one_picture_alone_has_no_cider_and_says_so() -> None:
    with pytest.warns(UserWarning, match="CIDEr of one picture is 0 whatever the caption"):
        assert caption_scores(["a dog"], [["a dog", "the dog"]])["cider"] == 0.0


def test_what_cannot_be_scored_is_said() -> None:
    with pytest.raises(DataError, match="candidate 1 has no reference"):
        caption_scores(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match="1 candidates for 2 pictures"):
        caption_scores(["a"], [["a"], ["b"]])
    with pytest.raises(DataError, match="no captions to score"):
        caption_scores([], [])
    with pytest.raises(DataError, match="give one caption a picture"):
        CaptionScorer([["a"], ["b"]]).values(["a", "b"], [1, 1])
