"""Samples as regions and tokens: what is drawn from what, pairs that do not match, and bad samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Box, Clip, Image
from diptych.data.batches.image_text import TextPreprocessing
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.batches.region_batch import RegionTextBatch
from diptych.data.batches.region_text import RegionTextConfig, RegionTextProcessor, says_nothing
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.pixels.regions import RegionConfig
from diptych.data.pixels.views import Views
from diptych.data.words.tokenizer import Tokenizer

POOL = ("a green star", "two dogs", "a house under a tree", "nothing at all")
TOKENIZER = Tokenizer.fit([*POOL, "a red ball", "the ball is red"], 300, mask=True)
SQUASHED = ImagePreprocessing(8, resize="squash", views=None)


def picture(height: int = 10, width: int = 16) -> Image:
    ramp = np.arange(width, dtype=np.uint8)[None, :, None] * 12
    return Image(pixels_HWC=np.broadcast_to(ramp, (height, width, 3)).copy())


def sample(key: str = "a", boxes: tuple[Box, ...] = (), texts: tuple[str, ...] = ("a red ball",)) -> Sample:
    return Sample(key, (picture(),), texts, boxes=boxes)


def processor(regions: RegionConfig | None = None, mismatched: float = 0.5) -> RegionTextProcessor:
    config = RegionTextConfig(SQUASHED, TextPreprocessing(16), regions or RegionConfig("boxes", grid=(1,)), mismatched)
    return RegionTextProcessor(config, TOKENIZER, OtherCaptions(POOL))


def batch_of(made: RegionTextProcessor, samples: list[Sample], draw: bool = False) -> RegionTextBatch:
    fields = made.layout()
    arrays = {name: np.full((len(samples), *one.shape), 7, one.dtype) for name, one in fields.items()}
    items = [
        made.prepare(one, Draw(0, 0, one.key) if draw else None, {name: array[i] for name, array in arrays.items()})
        for i, one in enumerate(samples)
    ]
    return made.collate(
        tuple(one.key for one in samples), {name: torch.from_numpy(a) for name, a in arrays.items()}, items
    )


def test_boxes_are_padded_to_the_picture_that_has_most_and_reused_memory_leaves_nothing_behind() -> None:
    many = sample("b", (Box(0, 0, 8, 5), Box(8, 0, 16, 10)))
    batch = batch_of(processor(), [sample("a", (Box(4, 0, 12, 10),)), many])
    pictures = batch.pictures
    assert pictures.counts_N.tolist() == [1, 2]
    expected = [[[0.25, 0, 0.75, 1], [0, 0, 0, 0]], [[0, 0, 0.5, 0.5], [0.5, 0, 1, 1]]]
    torch.testing.assert_close(pictures.boxes_NR4, torch.tensor(expected))
    assert pictures.pixels_NCHW.shape == (2, 3, 8, 8)


def test_boxes_on_the_picture_itself_are_known_too() -> None:
    seen = processor().pictures([replace(picture(), boxes=(Box(0, 0, 8, 10),)), picture()])
    torch.testing.assert_close(seen.boxes_NR4, torch.tensor([[[0, 0, 0.5, 1.0]], [[0, 0, 1.0, 1.0]]]))


def test_a_mirrored_picture_has_mirrored_boxes() -> None:
    one = sample(boxes=(Box(0, 0, 4, 10),))
    plain = batch_of(processor(RegionConfig("boxes", grid=(1,))), [one], draw=True)
    turned = batch_of(processor(RegionConfig("boxes", grid=(1,), mirror=1.0)), [one], draw=True)
    torch.testing.assert_close(turned.pictures.pixels_NCHW, plain.pictures.pixels_NCHW.flip(-1))
    torch.testing.assert_close(turned.pictures.boxes_NR4, torch.tensor([[[0.75, 0, 1.0, 1.0]]]))
    never = batch_of(processor(RegionConfig("boxes", grid=(1,), mirror=1.0)), [one])  # evaluation draws nothing
    torch.testing.assert_close(never.pictures.pixels_NCHW, plain.pictures.pixels_NCHW)


def test_half_of_the_pairs_have_a_caption_of_another_picture_and_are_said_to() -> None:
    samples = [sample(f"key {index}") for index in range(400)]
    batch = batch_of(processor(), samples, draw=True)
    own = TOKENIZER.encode(["a red ball"], 16)[0]
    said_own = [row[: len(own)].tolist() == own for row in batch.tokens_BT]
    assert batch.matches_B.tolist() == said_own
    assert 160 < sum(said_own) < 240
    again = batch_of(processor(), samples[::-1], draw=True)  # neither order nor neighbours matter
    assert again.matches_B.tolist() == said_own[::-1]
    assert batch_of(processor(mismatched=0.0), samples, draw=True).matches_B.all()


def test_a_caption_of_its_own_is_never_the_other_one() -> None:
    samples = [sample(f"key {index}", texts=("a red ball", *POOL[:3])) for index in range(60)]
    batch = batch_of(processor(), samples, draw=True)
    wrong = {TOKENIZER.decode(row.tolist()) for row in batch.tokens_BT[~batch.matches_B]}
    assert wrong == {POOL[3]}


def test_micro_batches_are_views_of_all_parts() -> None:
    batch = batch_of(processor(), [sample(f"key {index}") for index in range(5)], draw=True)
    parts = batch.split(2)
    assert [part.num_samples for part in parts] == [2, 2, 1]
    for name in ("tokens_BT", "lengths_B", "matches_B"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert torch.equal(torch.cat([part.pictures.boxes_NR4 for part in parts]), batch.pictures.boxes_NR4)
    assert sum((part.seeds for part in parts), ()) == batch.seeds
    assert sum((part.keys for part in parts), ()) == batch.keys


def test_previews_show_the_picture_and_say_which_captions_are_another_pictures() -> None:
    samples = [sample(f"key {index}") for index in range(20)]
    batch = batch_of(processor(), samples, draw=True)
    for shown, matches in zip(processor().preview(batch), batch.matches_B.tolist(), strict=True):
        assert shown.picture_HWC is not None and shown.picture_HWC.shape == (8, 8, 3)
        assert shown.text.endswith("(of another picture)") != matches


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Sample("a", (picture(),), ()), "no caption"),
        (Sample("a", (picture(),), ("  ",)), "empty caption"),
        (Sample("a", (picture(),), ("<start> <pad><end>",)), "empty caption"),
        (Sample("a", (picture(),), ("[MASK] [MASK]",)), "empty caption"),
        (Sample("a", (), ("a",)), "no image"),
        (Sample("a", (Clip((picture(),), (0.0,)),), ("a",)), "not an image"),
        (Sample("a", (Image(encoded=b"nothing"),), ("a",)), "not an image"),
        (sample(boxes=(Box(3, 3, 3, 4),)), "bad box"),
    ],
)
def test_bad_samples_are_refused_by_reason(bad: Sample, reason: str) -> None:
    with pytest.raises(BadSample) as caught:
        batch_of(processor(), [bad])
    assert caught.value.reason == reason


def test_a_text_of_control_tokens_alone_says_nothing() -> None:
    assert says_nothing(TOKENIZER, " <end>\n") and says_nothing(TOKENIZER, "[MASK]<mask>")
    assert not says_nothing(TOKENIZER, "<end> of the road")
    with pytest.raises(DataError, match="'<pad>' has no words"):
        processor().tokens(["a ball", "<pad>"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image": ImagePreprocessing(8, resize="squash", views=Views())}, "sees whole pictures"),
        ({"image": ImagePreprocessing(8, views=None)}, "sees whole pictures"),
        ({"image": replace(SQUASHED, scaled_decoding=True)}, "scaled_decoding off"),
        ({"text": TextPreprocessing(16, pad_to_max=True)}, "no constant padding"),
        ({"text": TextPreprocessing(16, negatives=("order",))}, "no hard negatives"),
        ({"mismatched": 1.0}, "a share of the pairs"),
    ],
)
def test_settings_that_do_not_fit_regions_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        RegionTextConfig(**{"image": SQUASHED, **change})  # type: ignore[arg-type]
