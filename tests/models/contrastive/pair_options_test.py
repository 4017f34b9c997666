"""Options that every contrastive model on pairs has: masked patches and tokens, hard negatives, equal captions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.core.losses import total
from diptych.core.sample import Sample
from diptych.core.task import Features
from diptych.core.visual import Image
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.masking import kept_patches
from diptych.layers.modified_resnet import ResNetConfig
from diptych.models.contrastive import clip, siglip
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.models.contrastive._two_towers import TwoTowerTask
from diptych.models.contrastive.clip import ClipTask
from diptych.models.contrastive.siglip import SiglipTask
from diptych.objectives.contrastive import info_nce

SCENES = Scenes("train", 6, SceneConfig(size=32, min_objects=2))
TOKENIZER = Tokenizer.fit([text for index in range(6) for text in SCENES[index].texts], 400)
CLIP = clip.Config.tiny(TOKENIZER.vocab_size, image_size=32)
SIGLIP = siglip.Config.tiny(TOKENIZER.vocab_size, image_size=32)
TASKS = (ClipTask, SiglipTask)
HARD = ("swap_attribute", "replace_object")


def task_of(cls: type, *kinds: str, seed: int = 0, **options: Any) -> TwoTowerTask:
    torch.manual_seed(seed)
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64, negatives=kinds))
    config = CLIP if cls is ClipTask else SIGLIP
    task: TwoTowerTask = cls(config, ImageTextProcessor(settings, TOKENIZER), PairOptions(**options))
    return task.double()


def batch_of(task: TwoTowerTask, source: Any = SCENES) -> ImageTextBatch:
    return next(iter(evaluation_batches(source, task.processor, len(source))))


def gradients(task: TwoTowerTask) -> dict[str, Tensor]:
    total(task.losses(batch_of(task))).backward()
    return {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("cls", TASKS)
def test_nothing_masked_is_the_plain_model_to_the_bit(cls: type) -> None:
    plain, zero = gradients(task_of(cls)), gradients(task_of(cls, masking=Masking(0.0, 0.0)))
    assert plain.keys() == zero.keys()
    assert all(torch.equal(plain[name], zero[name]) for name in plain)


@pytest.mark.parametrize("cls", TASKS)
def test_every_pass_goes_through_the_door_that_is_compiled(cls: type) -> None:
    for kinds, options in (((), {}), (HARD, {"masking": Masking(0.5, 0.3)})):
        task, passes = task_of(cls, *kinds, **options), []
        task.model.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        task.losses(batch_of(task))
        assert passes == [1]


@pytest.mark.parametrize("cls", TASKS)
def test_patches_are_drawn_from_the_samples_seeds(cls: type) -> None:
    task = task_of(cls, masking=Masking(image=0.5))
    batch = batch_of(task)
    kept = task.kept_patches(batch)
    assert kept is not None and torch.equal(kept, kept_patches(batch.seeds, 16, 8))
    rows = task.features(batch).features
    assert torch.equal(rows["image"], task.model.encode_image(batch.pixels_BCHW, kept))
    parts = [task.features(part).features["image"] for part in batch.split(2)]
    torch.testing.assert_close(torch.cat(parts), rows["image"], rtol=1e-12, atol=1e-14)
    whole = task.predictor().module.encode_image(batch.pixels_BCHW)
    assert float((whole - rows["image"]).detach().abs().max()) > 1e-3, "a predictor sees everything"


@pytest.mark.parametrize("cls", TASKS)
def test_masked_texts_are_the_tower_on_what_is_left_with_the_positions_it_had(cls: type) -> None:
    task = task_of(cls, masking=Masking(text=0.5))
    batch, text = batch_of(task), task.model.text
    rows = task.features(batch).features["text"]
    plain = task.model.encode_text(batch.tokens_BT, batch.lengths_B)
    assert bool(((rows - plain).abs().amax(1) > 1e-5).all())
    tokens, lengths, places = _kept(task, batch)
    for index in range(6):
        row, place = tokens[index, : lengths[index]], places[index, : lengths[index]]
        assert torch.equal(row, batch.tokens_BT[index][place]) and place[0] == 0
        x_1TD = text.embedding(row)[None] + text.positions_TD[place]
        last = text.norm_post(text.transformer(x_1TD, causal=text.config.causal))[0, -1]
        torch.testing.assert_close(F.normalize(task.model.text_head(last), dim=-1), rows[index], rtol=1e-9, atol=1e-11)


def _kept(task: TwoTowerTask, batch: ImageTextBatch) -> Any:
    from diptych.layers.masking import kept_tokens

    return kept_tokens(batch.seeds, batch.tokens_BT, batch.lengths_B, 0.5, 1)


def test_short_captions_lose_nothing_when_padding_goes_first() -> None:
    task = task_of(ClipTask, masking=Masking(text=0.5, padding_first=True))
    batch = batch_of(task)
    assert int(batch.lengths_B.max()) < 33
    torch.testing.assert_close(
        task.features(batch).features["text"], task.model.encode_text(batch.tokens_BT, batch.lengths_B)
    )


def test_hard_negatives_are_more_columns_for_images_alone() -> None:
    task = task_of(ClipTask, *HARD)
    batch = batch_of(task)
    rows = task.features(batch).features
    assert batch.negatives is not None and bool(batch.negatives.wanted_B.all())
    hard = batch.negatives
    torch.testing.assert_close(rows["negative"], task.model.encode_text(hard.tokens_BT, hard.lengths_B))
    logits = rows["image"] @ torch.cat([rows["text"], rows["negative"]]).T / 0.07
    target = torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :6].T, target)) / 2
    torch.testing.assert_close(task.losses_from(rows)["contrastive"].value, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("cls", TASKS)
def test_rows_without_a_negative_do_not_count(cls: type) -> None:
    task, plain = task_of(cls, *HARD), task_of(cls)
    rows = task.features(batch_of(task)).features
    none = Features({**rows, "wanted": torch.zeros(6, dtype=torch.bool)})
    expected = plain.losses_from(Features(image=rows["image"], text=rows["text"]))["contrastive"].value
    torch.testing.assert_close(task.losses_from(none)["contrastive"].value, expected)
    assert float(task.losses_from(rows)["contrastive"].value.detach()) > float(expected.detach())


def test_siglips_negatives_are_pairs_that_do_not_belong_and_travel_with_the_texts() -> None:
    task = task_of(SiglipTask, *HARD)
    assert isinstance(task, SiglipTask) and task.travelling == ("text", "negative", "wanted")
    rows = task.features(batch_of(task)).features
    with torch.no_grad():
        task.model.bias.fill_(-2.0)
    scores = 10 * rows["image"] @ torch.cat([rows["text"], rows["negative"]]).T - 2
    signs = torch.cat([2 * torch.eye(6) - 1, -torch.ones(6, 6)], 1)
    expected = -F.logsigmoid(signs * scores).sum() / 6
    torch.testing.assert_close(task.losses_from(rows)["contrastive"].value, expected, rtol=1e-6, atol=1e-8)
    here = Features(image=rows["image"])
    blocks = [
        task.pair_losses(
            Features(image=here["image"][i : i + 3]),
            Features({name: rows[name][j : j + 3] for name in task.travelling}),
            own=i == j,
        )["contrastive"].sum
        for i in (0, 3)
        for j in (0, 3)
    ]
    torch.testing.assert_close(torch.stack(blocks).sum() / 6, expected, rtol=1e-6, atol=1e-8)
    assert task_of(SiglipTask).travelling == ("text",)  # type: ignore[attr-defined]


class _Repeated:
    """Pictures that differ, of which some have the same caption."""

    name = "repeated"
    texts = ("a red one", "a blue one", "a red one", "a red one")

    def __init__(self, texts: tuple[str, ...] = texts) -> None:
        rng = np.random.default_rng(0)
        pictures = [Image(pixels_HWC=rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in texts]
        self.samples = [Sample(f"k{i}", (pictures[i],), (text,)) for i, text in enumerate(texts)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def keys(self) -> list[str]:
        return [sample.key for sample in self.samples]

    def fingerprint(self) -> str:
        return "repeated"


def test_equal_captions_are_positives_of_one_anothers_pictures() -> None:
    """That is another loss only where their vectors differ: of equal ones the sum over a group is the same."""
    same = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [1, 0, 1, 1], [1, 0, 1, 1]], dtype=torch.float64)
    target = same / same.sum(1, keepdim=True)
    for text_ratio, differs in ((0.7, True), (0.0, False)):
        task = task_of(ClipTask, same_text=True, masking=Masking(text=text_ratio))
        rows = task.features(batch_of(task, _Repeated())).features
        image, text = rows["image"].detach(), rows["text"].detach()
        logits = image @ text.T / 0.07
        expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        found = task.losses_from(rows)["contrastive"].value.detach()
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
        plain = info_nce(image, text, task.model.log_scale.detach().exp())  # type: ignore[operator]
        assert (abs(float(plain - found)) > 1e-4) == differs


@pytest.mark.parametrize("cls", TASKS)
@pytest.mark.parametrize("texts", [("a red one",), ("a red one",) * 5])
def test_a_batch_of_one_and_one_caption_for_all_are_finite(cls: type, texts: tuple[str, ...]) -> None:
    for options in ({}, {"masking": Masking(0.5, 0.5)}, {"same_text": True} if cls is ClipTask else {}):
        task = task_of(cls, *HARD, **options)
        loss = total(task.losses(batch_of(task, _Repeated(texts))))
        loss.backward()
        assert bool(loss.isfinite())
        assert all(bool(p.grad.isfinite().all()) for p in task.parameters() if p.grad is not None)
    alone = task_of(cls).losses(batch_of(task_of(cls), _Repeated(texts)))["contrastive"].value
    if cls is ClipTask:
        assert float(alone) == pytest.approx(np.log(len(texts)), abs=1e-9) or len(texts) > 1


@pytest.mark.parametrize(("ratio", "said"), [(1.0, "masking.image 1.0"), (-0.1, "masking.image -0.1")])
def test_ratios_that_are_no_share_are_refused_with_the_number(ratio: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Masking(image=ratio)
    with pytest.raises(ConfigError, match=said.replace("image", "text")):
        Masking(text=ratio)


def test_what_a_model_cannot_mask_is_refused() -> None:
    with pytest.raises(ConfigError, match="97% of 16 patches leaves none"):
        task_of(ClipTask, masking=Masking(image=0.97))
    resnet = replace(CLIP, vision=ResNetConfig(32, stem=8, blocks=(1, 1, 1, 1), heads=4))
    processor = task_of(ClipTask).processor
    with pytest.raises(ConfigError, match="a ResNet tower does not have"):
        ClipTask(resnet, processor, PairOptions(Masking(image=0.5)))
    task = ClipTask(resnet, processor)
    assert not task.divisible and ClipTask(CLIP, processor).divisible
    with pytest.raises(ConfigError, match="leave checkpointing off"):
        task.checkpoint_activations(True)
    constant = replace(SIGLIP, text=replace(SIGLIP.text, padding="constant"))
    padded = replace(processor.config, text=replace(processor.config.text, pad_to_max=True))
    with pytest.raises(ConfigError, match="drops tokens of texts whose padding is read"):
        SiglipTask(constant, ImageTextProcessor(padded, TOKENIZER), PairOptions(Masking(text=0.5)))
    with pytest.raises(ConfigError, match="same_text is for CLIP's softmax"):
        task_of(SiglipTask, same_text=True)


def test_negatives_come_along_where_padding_is_read() -> None:
    config = replace(SIGLIP, text=replace(SIGLIP.text, padding="constant"))
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(20, True, HARD))
    task = SiglipTask(config, ImageTextProcessor(settings, TOKENIZER))
    batch = batch_of(task)
    assert batch.negatives is not None and batch.negatives.tokens_BT.shape == batch.tokens_BT.shape == (6, 20)
    assert bool(total(task.losses(batch)).isfinite())
