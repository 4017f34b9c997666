"""Pairs, pictures alone and texts alone in one batch: what is drawn, hidden, asked and refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract import Held

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, TextPreprocessing
from diptych.data.batches.mixed_pairs import Kind, Masks, MixedBatch, MixedPairsProcessor
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.batches.row_kinds import kinds_in
from diptych.data.derived.without import WithoutCaptions, WithoutPictures
from diptych.data.words.tokenizer import Tokenizer

SIZE, GRID = 16, 4
NAMES = [f"a {colour} {thing}" for colour in ("red", "green", "blue") for thing in ("cat", "dog", "house", "star")]


def sample(index: int, picture: bool = True, texts: Sequence[str] | None = None) -> Sample:
    pixels = np.full((SIZE, SIZE, 3), 10 + index % 200, np.uint8)
    said = (NAMES[index % len(NAMES)],) if texts is None else tuple(texts)
    return Sample(f"key {index}", (Image(pixels_HWC=pixels),) if picture else (), said)


def processor(masks: Masks | None = None, others: bool = True, **text: Any) -> MixedPairsProcessor:
    settings = ImageTextConfig(ImagePreprocessing(SIZE, views=None), TextPreprocessing(12, **text))
    tokenizer = Tokenizer.fit(NAMES, 300, mask=True)
    pool = OtherCaptions(NAMES) if others else None
    return MixedPairsProcessor(settings, tokenizer, GRID, masks or Masks(), pool)


def batch_of(made: MixedPairsProcessor, samples: Sequence[Sample], epoch: int | None = 0) -> MixedBatch:
    layout = made.layout()
    arrays = {n: np.full((len(samples), *f.shape), 77, f.dtype) for n, f in layout.items()}  # used memory
    items = [
        made.prepare(
            one, None if epoch is None else Draw(0, epoch, one.key), {n: rows[i] for n, rows in arrays.items()}
        )
        for i, one in enumerate(samples)
    ]
    return made.collate(tuple(s.key for s in samples), {n: torch.from_numpy(a) for n, a in arrays.items()}, items)


def test_a_sample_is_what_it_has() -> None:
    samples = [sample(0), sample(1, texts=()), sample(2, picture=False), sample(3)]
    batch = batch_of(processor(Masks(mismatched=0.0)), samples)
    assert batch.kinds == (Kind.MATCHED, Kind.PICTURE, Kind.TEXT, Kind.MATCHED)
    assert batch.places(Kind.TEXT, Kind.MATCHED) == [2, 0, 3]
    assert not batch.pixels_BCHW[2].any() and not batch.hidden_BP[2].any()
    assert (batch.labels_BT[1] == -100).all() and batch.lengths_B[1] == 2
    for row, (patches, words) in enumerate(batch.asked):
        assert patches == int(batch.hidden_BP[row].sum()) and words == int((batch.labels_BT[row] >= 0).sum())
    assert [patches > 0 for patches, _ in batch.asked] == [True, True, False, True]
    assert [words > 0 for _, words in batch.asked] == [True, False, True, True]


def test_masks_replace_what_they_ask_about_and_nothing_else() -> None:
    batch = batch_of(processor(), [sample(i) for i in range(40)])
    asked = batch.labels_BT >= 0
    assert torch.equal(batch.labels_BT[asked], batch.tokens_BT[asked])
    assert torch.equal(batch.masked_BT[~asked], batch.tokens_BT[~asked])
    hidden = batch.hidden_BP.sum(1)
    assert int(hidden.min()) >= 1 and int(hidden.max()) <= round(16 * 75 / 196)


def test_the_shares_of_pairs_are_those_that_are_asked() -> None:
    masks = Masks(mismatched=0.25, alone=(0.2, 0.1))
    batch = batch_of(processor(masks), [sample(i) for i in range(3000)])
    found = Counter(batch.kinds)
    expected = {Kind.PICTURE: 0.2, Kind.TEXT: 0.1, Kind.MISMATCHED: 0.7 * 0.25, Kind.MATCHED: 0.7 * 0.75}
    for kind, share in expected.items():
        assert found[kind] / 3000 == pytest.approx(share, abs=5 * (share * (1 - share) / 3000) ** 0.5)


def test_a_mismatched_caption_is_another_pictures() -> None:
    made = processor(Masks(mismatched=0.5))
    batch = batch_of(made, [sample(i) for i in range(200)])
    for row, kind in enumerate(batch.kinds):
        said = made.tokenizer.decode(batch.tokens_BT[row].tolist())
        assert (said == NAMES[row % len(NAMES)]) == (kind is Kind.MATCHED)


def test_rows_are_functions_of_seed_epoch_and_key_alone() -> None:
    made, samples = processor(Masks(alone=(0.2, 0.2))), [sample(i) for i in range(30)]
    whole, last = batch_of(made, samples), batch_of(made, samples[20:])
    assert whole.kinds[20:] == last.kinds and torch.equal(whole.hidden_BP[20:], last.hidden_BP)
    width = last.masked_BT.shape[1]
    assert torch.equal(whole.masked_BT[20:, :width], last.masked_BT)
    later = batch_of(made, samples, epoch=1)
    assert later.kinds != whole.kinds and not torch.equal(later.hidden_BP, whole.hidden_BP)
    first, again = batch_of(made, samples, epoch=None), batch_of(made, samples, epoch=None)
    assert first.kinds == again.kinds and torch.equal(first.masked_BT, again.masked_BT)


def test_parts_of_a_batch_are_its_rows() -> None:
    batch = batch_of(processor(Masks(alone=(0.3, 0.3))), [sample(i) for i in range(7)])
    batch = replace(batch, codes_BP=torch.arange(7 * 16).reshape(7, 16))
    parts = batch.split(3)
    assert [part.num_samples for part in parts] == [3, 3, 1]
    assert sum((part.kinds for part in parts), ()) == batch.kinds
    assert sum((part.asked for part in parts), ()) == batch.asked
    for name in ("hidden_BP", "masked_BT", "labels_BT", "codes_BP", "pixels_BCHW"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name)), name
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.hidden_BP, batch.hidden_BP) and moved.kinds == batch.kinds


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (sample(0, picture=False, texts=()), "nothing in it"),
        (sample(0, texts=("",)), "empty caption"),
        (sample(0, texts=("  ", "\n")), "empty caption"),
        (sample(0, picture=False, texts=("",)), "empty caption"),
    ],
)
def test_a_sample_that_says_nothing_is_named(wrong: Sample, reason: str) -> None:
    with pytest.raises(BadSample) as refused:
        batch_of(processor(), [wrong])
    assert refused.value.reason == reason and refused.value.key == "key 0"


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="captions of other pictures"):
        processor(others=False)
    with pytest.raises(ConfigError, match="cannot be cut into 5 x 5 patches"):
        made = processor()
        MixedPairsProcessor(made.config, made.tokenizer, 5, Masks(mismatched=0), None)
    with pytest.raises(ConfigError, match="no mask token"):
        MixedPairsProcessor(made.config, Tokenizer.fit(NAMES, 300), GRID, Masks(mismatched=0), None)
    for wrong in ({"mismatched": 1.0}, {"alone": (0.6, 0.6)}, {"alone": (-0.1, 0.0)}, {"words": 0.0}):
        with pytest.raises(ConfigError):
            Masks(**wrong)  # type: ignore[arg-type]


def test_a_preview_greys_what_is_hidden_and_says_what_is_read() -> None:
    made = processor(Masks(mismatched=0.5, words=1.0))
    batch = batch_of(made, [sample(i) for i in range(6)])
    for row, shown in enumerate(made.preview(batch)):
        assert shown.text.startswith(batch.kinds[row].name.lower())
        assert shown.picture_HWC is not None
        grey = (shown.picture_HWC[::4, ::4] == 128).all(-1)
        assert np.array_equal(grey, batch.hidden_BP[row].reshape(GRID, GRID).numpy())


def test_one_side_of_a_source() -> None:
    source = Held([sample(i) for i in range(3)])
    pictures, texts = WithoutCaptions(source), WithoutPictures(source)
    assert pictures[1].texts == () and pictures[1].image.pixels_HWC is not None
    assert texts[1].visuals == () and texts[1].texts == (NAMES[1],)
    assert pictures.keys() == source.keys() and len(texts) == 3
    assert len({pictures.fingerprint(), texts.fingerprint(), source.fingerprint()}) == 3
    assert pictures.name == "held, without captions"


def test_the_kinds_that_data_give() -> None:
    pairs, alone = Held([sample(i) for i in range(5)]), Held([sample(0, texts=()), sample(1, picture=False)])
    assert kinds_in(pairs, Masks(mismatched=0)) == {Kind.MATCHED}
    assert kinds_in(pairs, Masks()) == {Kind.MATCHED, Kind.MISMATCHED}
    assert kinds_in(pairs, Masks(alone=(0.5, 0.5))) == {Kind.PICTURE, Kind.TEXT}
    assert kinds_in(pairs, Masks(alone=(0.1, 0))) == {Kind.MATCHED, Kind.MISMATCHED, Kind.PICTURE}
    assert kinds_in(alone, Masks(alone=(0.5, 0.5))) == {Kind.PICTURE, Kind.TEXT}
