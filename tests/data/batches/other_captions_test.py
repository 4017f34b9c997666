"""Captions of other pictures."""

import pytest

from diptych.core.errors import DataError
from diptych.core.seeding import Draw
from diptych.data.batches.other_captions import OtherCaptions

POOL = OtherCaptions(["a", "b", "c", "d", "a", " "])


def test_never_the_samples_own_and_as_often_as_asked() -> None:
    drawn = [POOL.draw(("a", "b"), Draw(0, epoch, "key"), 0.3) for epoch in range(3000)]
    given = [text for text in drawn if text is not None]
    assert set(given) == {"c", "d"}
    assert len(given) / 3000 == pytest.approx(0.3, abs=0.03)
    assert given.count("c") / len(given) == pytest.approx(0.5, abs=0.06)


def test_a_caption_is_drawn_as_often_as_it_is_said() -> None:
    """Otherwise captions that many pictures share would give away the pairs that match."""
    pool = OtherCaptions(["often"] * 6 + ["seldom"] * 2)
    drawn = [pool.draw(("own",), Draw(0, epoch, "key"), 1.0) for epoch in range(2000)]
    assert drawn.count("often") / 2000 == pytest.approx(0.75, abs=0.03)


def test_a_function_of_seed_epoch_and_key() -> None:
    draws = [Draw(seed, epoch, key) for seed in (0, 1) for epoch in (0, 1) for key in "kl"]
    texts = [POOL.draw((), draw, 1.0) for draw in draws]
    assert texts == [POOL.draw((), draw, 1.0) for draw in draws]
    assert len(set(texts)) > 1


def test_a_pool_without_another_caption() -> None:
    assert POOL.draw(("a", "b", "c", "d"), Draw(0, 0, "k"), 1.0) is None
    with pytest.raises(DataError, match="1 different"):
        OtherCaptions(["a", "a", ""])
