"""Retrieval on vectors that are known: both ways, several captions a picture, pools, bad pictures, refusals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.verbs import Comparable, Verb, reachable
from diptych.core.errors import ConfigError, NotComparable
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.evaluation.benchmark import Records
from diptych.evaluation.benchmarks import retrieval
from diptych.evaluation.benchmarks.retrieval import Settings, run
from diptych.evaluation.ranking import pair_rows
from diptych.evaluation.ranking.candidates import seeded_pool
from diptych.evaluation.ranking.reranking import first_k

N, D, EACH = 30, 8, (5, 3)
GEN = torch.Generator().manual_seed(0)
PICTURES = F.normalize(torch.randn(N, D, generator=GEN), dim=-1)
OWNER = [i for i in range(N) for _ in range(EACH[i % 2])]
CAPTIONS = F.normalize(PICTURES[OWNER] + 0.3 * torch.randn(len(OWNER), D, generator=GEN), dim=-1)


class Known:
    """Picture "3" and caption "17" are rows of the tables above."""

    VERBS: tuple[str, ...] = ("encode_image", "encode_text")
    comparable_over = Comparable.BOTH
    ranks_by_cosine = True
    name = "known"

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        if bad := [one.name for one in visuals if one.name == "7"]:
            raise BadSample(bad[0], "truncated image")
        return PICTURES[[int(one.name) for one in visuals]]

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return CAPTIONS[[int(text) for text in texts]]


class OnlyScore(Known):
    VERBS = ("score",)

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return self.encode_image(visuals) @ self.encode_text(texts).T


class LooksAtBoth(OnlyScore):
    """Its encodings say the opposite of its score."""

    VERBS = ("encode_image", "encode_text", "score")
    ranks_by_cosine = False
    calls = 0

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        self.calls += 1
        return -super().score(visuals, texts)


class Album:
    """Thirty pictures with five or three captions; one cannot be read, one has none."""

    name = "album"

    def __len__(self) -> int:
        return N

    def keys(self) -> list[str]:
        return [f"k{i}" for i in range(N)]

    def fingerprint(self) -> str:
        return "album"

    def __getitem__(self, index: int) -> Sample:
        texts = tuple(str(c) for c, owner in enumerate(OWNER) if owner == index) if index != 9 else (" ",)
        image = Image(pixels_HWC=np.zeros((1, 1, 3), np.uint8), name=str(index))
        return Sample(f"k{index}", (image,), texts)


def recalls(kept: list[int], k: int) -> tuple[float, float]:
    """By sorting: a picture by the best of its captions, every caption by itself."""
    captions = [c for c, owner in enumerate(OWNER) if owner in kept]
    scores = (PICTURES[kept] @ CAPTIONS[captions].T).numpy()
    to_text = [any(OWNER[captions[j]] == i for j in np.argsort(-row)[:k]) for i, row in zip(kept, scores, strict=True)]
    to_image = [
        any(kept[i] == OWNER[c] for i in np.argsort(-column)[:k]) for c, column in zip(captions, scores.T, strict=True)
    ]
    return float(np.mean(to_text)), float(np.mean(to_image))


def test_recall_both_ways_with_several_captions_and_bad_pictures() -> None:
    records = Records(None, {})
    outcome = run(Known(), Album(), Settings(), records)  # type: ignore[arg-type]
    kept = [i for i in range(N) if i not in (7, 9)]
    for k in (1, 5, 10):
        to_text, to_image = recalls(kept, k)
        assert outcome.metrics[f"image_to_text_r{k}"].value == pytest.approx(to_text)
        assert outcome.metrics[f"text_to_image_r{k}"].value == pytest.approx(to_image)
    assert outcome.metrics["text_to_image_r1"].value < 1
    captions = sum(owner in kept for owner in OWNER)
    assert outcome.extras["pool"] == {"pictures": 28, "captions": captions}
    assert outcome.metrics["pool"].value == 28
    assert outcome.metrics["text_to_image_r10"].chance == pytest.approx(10 / 28)
    # Intervals rest on pictures: the captions of one are not independent.
    assert outcome.metrics["text_to_image_r1"].n == 28
    assert (records.done["k7"].status, records.done["k9"].status) == ("truncated image", "no caption")
    ok = [key for key, record in records.done.items() if record.status == "ok"]
    assert len(ok) == 28 + captions


def test_a_native_score_is_ranked_alike() -> None:
    encoded, scored = Records(None, {}), Records(None, {})
    expected = run(Known(), Album(), Settings(), encoded).metrics  # type: ignore[arg-type]
    assert run(OnlyScore(), Album(), Settings(), scored).metrics == expected  # type: ignore[arg-type]
    assert scored.done == encoded.done


def test_a_model_that_looks_at_both_sides_is_ranked_by_its_score() -> None:
    model = LooksAtBoth()
    opposite = run(model, Album(), Settings(), Records(None, {})).metrics  # type: ignore[arg-type]
    by_encodings = run(Known(), Album(), Settings(), Records(None, {})).metrics  # type: ignore[arg-type]
    assert opposite["text_to_image_r1"].value < 0.1 < by_encodings["text_to_image_r1"].value
    assert model.calls < len(Album()) + 5  # all at once, and one by one for the bad picture


def test_a_pool_is_seeded_and_the_same_for_every_model() -> None:
    pool = seeded_pool(Album(), 10, seed=0)
    assert len(pool) == 10
    assert pool.keys() == seeded_pool(Album(), 10, seed=0).keys() != seeded_pool(Album(), 10, seed=1).keys()
    assert seeded_pool(Album(), 30, 0).keys() == Album().keys()


@pytest.mark.parametrize(
    ("over", "refused", "allowed"),
    [(Comparable.TEXTS, "text_to_image", "image_to_text"), (Comparable.VISUALS, "image_to_text", "text_to_image")],
)
def test_a_direction_that_the_score_does_not_support_is_refused(over: Comparable, refused: str, allowed: str) -> None:
    model = OnlyScore()
    model.comparable_over = over
    with pytest.raises(NotComparable, match=f"comparable over {over} only: {refused} retrieval needs the other"):
        run(model, Album(), Settings(directions=(refused, allowed)), Records(None, {}))  # type: ignore[arg-type]
    for directions in ((allowed,), ()):
        outcome = run(model, Album(), Settings(directions=directions), Records(None, {}))  # type: ignore[arg-type]
        assert any(name.startswith(allowed) for name in outcome.metrics)
        assert not any(name.startswith(refused) for name in outcome.metrics)
        # Nobody asked for it, so it is left out, and the report says why.
        said = [
            f"No {refused}: the score of known is comparable over {over} only: {refused} retrieval needs the other."
        ]
        assert outcome.extras.get("notes", []) == ([] if directions else said)


def test_a_direction_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="direction of retrieval 'text_to_images': did you mean 'text_to_image'"):
        Settings(directions=("text_to_images",))


def test_the_gallery_tells_right_from_wrong() -> None:
    gallery = run(Known(), Album(), Settings(), Records(None, {})).extras["gallery"]  # type: ignore[arg-type]
    assert {entry["right"] for entry in gallery} == {True, False}
    for entry in gallery:
        assert entry["right"] == (entry["rank"] == 1)
        if entry["query"]:  # a caption asks: the truth is its picture's key
            assert entry["truth"] == f"k{OWNER[int(entry['query'])]}"
            assert (entry["top"][0]["key"] == entry["truth"]) == entry["right"]
        else:
            assert (OWNER[int(entry["top"][0])] == int(entry["key"][1:])) == entry["right"]


class Matcher(Known):
    """Knows every pair: the true one scores highest."""

    VERBS = ("encode_image", "encode_text", "score_pairs")
    pairs = 0

    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        self.encode_image(visuals)  # the bad picture is bad here too
        self.pairs += len(texts)
        own = [float(OWNER[int(text)] == int(one.name)) for one, text in zip(visuals, texts, strict=True)]
        return torch.tensor(own) - 0.001 * torch.tensor([int(text) for text in texts])

    def how(self, verb: str) -> str:
        return reachable(self.VERBS)[Verb(verb)].how


def kept_captions() -> list[int]:
    return [c for c, owner in enumerate(OWNER) if owner not in (7, 9)]


@pytest.mark.parametrize("k", [1, 4, 500])
def test_the_matching_head_orders_the_first_k_and_nothing_else(k: int) -> None:
    model = Matcher()
    plain = run(Known(), Album(), Settings(), Records(None, {})).metrics  # type: ignore[arg-type]
    found = run(model, Album(), Settings(rerank=k), Records(None, {})).metrics  # type: ignore[arg-type]
    kept = [i for i in range(N) if i not in (7, 9)]
    for way in ("image_to_text", "text_to_image"):
        for r in (1, 5, 10):
            assert found[f"first_stage_{way}_r{r}"] == plain[f"{way}_r{r}"]
        # A head that is always right finds at rank 1 whatever the first stage let through, and no more.
        ceiling = recalls(kept, k)[way == "text_to_image"]
        assert found[f"{way}_r1"].value == pytest.approx(ceiling)
        assert found[f"first_stage_{way}_r{k}"].value == pytest.approx(ceiling)
        # What was not put in order keeps its place: beyond k both stages agree.
        assert found[f"{way}_r10"].value == (plain[f"{way}_r10"].value if k < 10 else 1.0)
    everything = len(kept) * len(kept_captions())
    assert model.pairs == everything if k == 500 else model.pairs <= k * (len(kept) + len(kept_captions()))


def test_both_stages_stand_in_every_record() -> None:
    records = Records(None, {})
    outcome = run(Matcher(), Album(), Settings(rerank=3), records)  # type: ignore[arg-type]
    values = records.done["k0#0"].values
    assert {"text_to_image_r1", "first_stage_text_to_image_r1", "first_stage_text_to_image_r3"} <= values.keys()
    assert outcome.verbs == ("score", "score_pairs")
    final, _ = records.values("text_to_image_r1")
    assert np.mean(final) == pytest.approx(outcome.metrics["text_to_image_r1"].value)


def test_a_head_that_says_the_same_of_every_candidate_gets_their_chance() -> None:
    class Indifferent(Matcher):
        def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
            return torch.zeros(len(texts))

    found = run(Indifferent(), Album(), Settings(rerank=500), Records(None, {})).metrics  # type: ignore[arg-type]
    assert found["text_to_image_r1"].value == 0.0
    assert found["text_to_image_r1_expected"].value == pytest.approx(1 / 28)
    assert found["text_to_image_tie_rate"].value == 1.0


def test_re_ranking_needs_both_stages() -> None:
    settings = Settings(rerank=5)

    class OnlyPairs(Matcher):
        VERBS = ("score_pairs",)

    class NoHead(Matcher):
        VERBS = ("encode_image", "encode_text")

    with pytest.raises(ConfigError, match="needs a fast first stage: known has no encodings"):
        run(OnlyPairs(), Album(), settings, Records(None, {}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"needs a matching head: known has score_pairs only by .* pair's encodings"):
        run(NoHead(), Album(), settings, Records(None, {}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"retrieval\.rerank -1 must be 0 or more"):
        Settings(rerank=-1)


def test_among_equal_cosines_the_candidates_are_drawn_and_not_the_first() -> None:
    chosen = first_k(np.zeros((3, 200), np.float32), 50, seed=0)
    assert (chosen.sum(1) == 50).all() and 15 < int(chosen[0, :100].sum()) < 35
    scores = np.random.default_rng(0).normal(size=(4, 30)).astype(np.float32)
    best = np.argsort(-scores, axis=1)[:, :7]
    assert all(set(np.flatnonzero(row)) == set(some) for row, some in zip(first_k(scores, 7, 0), best, strict=True))


class Pairwise(Matcher):
    """Has nothing but a matching head."""

    VERBS = ("score_pairs",)

    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        self.pairs += len(texts)
        return (self.encode_image(visuals) * self.encode_text(texts)).sum(-1)


def test_a_pairwise_model_is_ranked_alike_in_a_smaller_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, scored = Records(None, {}), Records(None, {})
    monkeypatch.setattr(pair_rows, "BLOCK", 16)
    expected = run(Known(), Album(), Settings(), encoded).metrics  # type: ignore[arg-type]
    assert run(Pairwise(), Album(), Settings(), scored).metrics == expected  # type: ignore[arg-type]
    assert scored.done == encoded.done
    monkeypatch.setattr(retrieval, "PAIRWISE_POOL", 12)
    pooled = run(Pairwise(), Album(), Settings(directions=("image_to_text",)), Records(None, {}))  # type: ignore[arg-type]
    assert pooled.metrics["pool"].value in (10, 11, 12)
    assert run(Pairwise(), Album(), Settings(pool=20), Records(None, {})).metrics["pool"].value > 12  # type: ignore[arg-type]


def test_an_interrupted_pairwise_evaluation_goes_on_with_the_rows_it_has(tmp_path: Path) -> None:
    class Impatient(Pairwise):
        def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
            if visuals[0].name == "20" and self.pairs:
                raise KeyboardInterrupt
            return super().score_pairs(visuals, texts)

    whole = Pairwise()
    expected = run(whole, Album(), Settings(), Records(None, {})).metrics  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        run(Impatient(), Album(), Settings(), Records(tmp_path, {"model": 1}))  # type: ignore[arg-type]
    file = tmp_path / "pairs.jsonl"
    with file.open("a") as cut_off:
        cut_off.write('{"key": "k20", "col')
    again = Pairwise()
    assert run(again, Album(), Settings(), Records(tmp_path, {"model": 1})).metrics == expected  # type: ignore[arg-type]
    assert again.pairs == whole.pairs - 18 * sum(owner != 9 for owner in OWNER)  # pictures 0 to 19 but for 7 and 9
    assert not file.exists()
    file.write_text('{"key": "k0", "columns": [0], "scores": [9.0]}\n')
    Records(tmp_path, {"model": 2})
    assert not file.exists()  # of another model
