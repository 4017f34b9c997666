"""Hard negatives in batches: whose caption they are of, rows without one, unknown kinds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.hard_negatives import KINDS, hard_negative
from diptych.data.words.tokenizer import Tokenizer, text_labels
from diptych.evaluation.benchmarks import scene_negatives

PICTURE = Image(pixels_HWC=np.zeros((16, 16, 3), np.uint8))
SCENES = Scenes("train", 60, SceneConfig(size=24, min_objects=2))
PLAIN = Sample("plain", (PICTURE,), ("a red ball under a blue table",))
NOTHING = Sample("nothing", (PICTURE,), ("wonderful",))


def _processor(samples: list[Sample], *kinds: str, length: int = 40) -> ImageTextProcessor:
    texts = [text for sample in samples for text in sample.texts]
    texts += [said for s in samples for pair in s.meta.get("negatives", {}).values() for said in pair.values()]
    settings = ImageTextConfig(ImagePreprocessing(16), TextPreprocessing(length, negatives=kinds))
    return ImageTextProcessor(settings, Tokenizer.fit(texts, 400))


def batch_of(samples: list[Sample], *kinds: str, length: int = 40, epoch: int | None = 0) -> ImageTextBatch:
    processor = _processor(samples, *kinds, length=length)
    rows = np.zeros((len(samples), 16, 16, 3), np.uint8)
    draws = [None if epoch is None else Draw(0, epoch, sample.key) for sample in samples]
    items = [
        processor.prepare(s, draw, {"pixels": rows[i]}) for i, (s, draw) in enumerate(zip(samples, draws, strict=True))
    ]
    return processor.collate(tuple(s.key for s in samples), {"pixels": torch.from_numpy(rows)}, items)


def test_the_kinds_are_those_of_the_benchmark() -> None:
    assert set(KINDS) == set(scene_negatives.KINDS)


@pytest.mark.parametrize("wrong", ["swap_atribute", "nonsense"])
def test_unknown_kinds_are_refused_and_the_nearest_is_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown kind of hard negative '{wrong}'") as caught:
        TextPreprocessing(negatives=("order", wrong))
    assert "swap_attribute" in str(caught.value)


def test_a_sources_own_negative_comes_with_its_own_caption() -> None:
    drawn: Counter[str] = Counter()
    for epoch in range(10):
        for sample in (SCENES[index] for index in range(60)):
            kinds = ("swap_attribute", "swap_relation")
            caption, negative = hard_negative(sample, "unused", kinds, Draw(0, epoch, sample.key))
            known = {kind: sample.meta["negatives"][kind] for kind in kinds if kind in sample.meta["negatives"]}
            found = [kind for kind, pair in known.items() if pair == {"true": caption, "false": negative}]
            assert found or (not known and (caption, negative) == ("unused", None))
            drawn.update(found)
    assert min(drawn["swap_attribute"], drawn["swap_relation"]) > 150


def test_a_sample_of_a_source_with_negatives_takes_no_rules() -> None:
    sample = Sample("k", (PICTURE,), PLAIN.texts, meta={"negatives": {}})
    assert hard_negative(sample, PLAIN.texts[0], KINDS, None) == (PLAIN.texts[0], None)


def test_batches_carry_negatives_as_wide_as_captions_and_mark_rows_without_one() -> None:
    samples = [PLAIN, NOTHING, Sample("k", (PICTURE,), ("a red hat",))]
    batch = batch_of(samples, "swap_attribute", "swap_relation")
    hard = batch.negatives
    assert hard is not None and hard.wanted_B.tolist() == [True, False, False]
    assert hard.tokens_BT.shape == batch.tokens_BT.shape
    assert int(hard.lengths_B[1]) == 2, "start and end alone"
    assert not torch.equal(hard.tokens_BT[0], batch.tokens_BT[0])
    parts = batch.split(2)
    assert [part.negatives.wanted_B.tolist() for part in parts if part.negatives] == [[True, False], [False]]
    assert torch.equal(torch.cat([part.negatives.tokens_BT for part in parts if part.negatives]), hard.tokens_BT)
    moved = batch.to(torch.device("cpu")).negatives
    assert moved is not None and torch.equal(moved.tokens_BT, hard.tokens_BT)
    assert batch_of(samples).negatives is None


def test_a_negative_that_was_cut_to_its_caption_does_not_count() -> None:
    long = Sample("k", (PICTURE,), ("the house that stands on the hill is near a red ball under a blue table",))
    wanted = [batch_of([long], "swap_attribute", length=length).negatives for length in (8, 40)]
    assert [hard is not None and hard.wanted_B.tolist() for hard in wanted] == [[False], [True]]


def test_draws_change_with_the_epoch_and_not_otherwise_and_evaluation_has_none() -> None:
    samples = [SCENES[index] for index in range(20)]
    kinds = ("swap_attribute", "replace_object", "order")
    first, again, later = (batch_of(samples, *kinds, epoch=epoch) for epoch in (0, 0, 1))
    assert first.negatives and again.negatives and later.negatives
    assert torch.equal(first.negatives.tokens_BT, again.negatives.tokens_BT)
    assert first.negatives.tokens_BT.tolist() != later.negatives.tokens_BT.tolist()
    plain = batch_of([PLAIN] * 2, "swap_attribute", epoch=None).negatives
    assert plain and torch.equal(plain.tokens_BT[0], plain.tokens_BT[1]) and plain.wanted_B.all()


def test_previews_say_what_is_denied() -> None:
    texts = [shown.text for shown in _processor([PLAIN], "swap_attribute").preview(batch_of([PLAIN], "swap_attribute"))]
    assert texts == ["a red ball under a blue table (not: a blue ball under a red table)"]


def test_the_setting_is_saved_with_the_processor_and_old_folders_have_none() -> None:
    config = TextPreprocessing(12, negatives=("order",))
    assert from_plain(TextPreprocessing, to_plain(config)) == config
    assert from_plain(TextPreprocessing, {"max_length": 12}).negatives == ()


def test_captions_are_told_apart_by_their_tokens_and_not_by_their_padding() -> None:
    rows = torch.tensor([[1, 5, 7, 2, 9], [1, 7, 5, 2, 9], [1, 5, 7, 2, 8], [1, 5, 7, 9, 9]])
    lengths = torch.tensor([4, 4, 4, 3])
    labels = text_labels(rows, lengths)
    assert labels[0] == labels[2] and len(set(labels.tolist())) == 3
    assert torch.equal(text_labels(torch.nn.functional.pad(rows, (0, 3)), lengths), labels)
    many = torch.randint(0, 50_000, (20_000, 77), generator=torch.Generator().manual_seed(0))
    assert len(text_labels(many, torch.full((20_000,), 77)).unique()) == 20_000
