"""CLIP and SigLIP as tasks: published constants, the clamp, and processors that do not fit."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.core.task import Features
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive import clip, siglip
from diptych.models.contrastive.clip import ClipTask
from diptych.models.contrastive.siglip import SiglipTask

TOKENIZER = Tokenizer.fit(["a red square", "a blue circle"], 300)
CLIP = clip.Config.tiny(TOKENIZER.vocab_size, image_size=32)
SIGLIP = siglip.Config.tiny(TOKENIZER.vocab_size, image_size=32)


def processor(size: int = 32, length: int = 64, constant: bool = False) -> ImageTextProcessor:
    settings = ImageTextConfig(ImagePreprocessing(size), TextPreprocessing(length, pad_to_max=constant))
    return ImageTextProcessor(settings, TOKENIZER)


def test_the_scale_starts_at_one_over_the_published_temperature() -> None:
    assert ClipTask(CLIP, processor()).summary() == {"scale": pytest.approx(1 / 0.07)}


@pytest.mark.parametrize(("value", "kept"), [(-1.0, 0.0), (2.0, 2.0), (7.0, math.log(100))])
def test_clip_keeps_its_scale_between_one_and_a_hundred_after_each_step(value: float, kept: float) -> None:
    task = ClipTask(CLIP, processor())
    with torch.no_grad():
        task.model.log_scale.fill_(value)
    task.after_step()
    assert float(task.model.log_scale.detach()) == pytest.approx(kept)


def test_siglip_does_not_clamp() -> None:
    task = SiglipTask(SIGLIP, processor())
    with torch.no_grad():
        task.model.log_scale.fill_(7.0)
    task.after_step()
    assert task.summary()["scale"] == pytest.approx(math.exp(7.0), rel=1e-5)


def test_the_parts_weigh_each_pair_once() -> None:
    image, text = F.normalize(torch.randn(2, 6, 96, generator=torch.Generator().manual_seed(0)), dim=-1)
    rows = Features(image=image, text=text)
    part = ClipTask(CLIP, processor()).losses_from(rows)["contrastive"]
    logits, target = image @ text.T / 0.07, torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    assert part.count == 6 and part.scope == "global_batch"
    torch.testing.assert_close(part.sum / 6, expected)
    task = SiglipTask(SIGLIP, processor())
    with torch.no_grad():
        task.model.log_scale.fill_(math.log(3.0))
        task.model.bias.fill_(-2.0)
    part = task.losses_from(rows)["contrastive"]
    signs = 2 * torch.eye(6) - 1
    expected = -F.logsigmoid(signs * (3 * image @ text.T - 2)).sum() / 6
    torch.testing.assert_close(part.sum / part.count, expected)


@pytest.mark.parametrize(
    ("config", "made", "said"),
    [
        (CLIP, processor(size=64), "makes pictures of 64 pixels, the vision tower takes 32"),
        (CLIP, processor(length=65), "texts of up to 65 tokens do not fit a context of 64"),
        (CLIP.with_vocabulary(200), processor(), "the tokenizer has 300 tokens, the model 200 embeddings"),
        (CLIP, processor(constant=True), "constant padding must be on for both"),
    ],
)
def test_a_processor_that_does_not_fit_is_refused_with_both_numbers(
    config: clip.Config, made: ImageTextProcessor, said: str
) -> None:
    if "tokenizer" in said:
        said = said.replace("300", str(TOKENIZER.vocab_size))
    with pytest.raises(ConfigError, match=said):
        ClipTask(config, made)


def test_constant_padding_of_the_tower_alone_is_refused() -> None:
    config = replace(SIGLIP, text=replace(SIGLIP.text, padding="constant"))
    with pytest.raises(ConfigError, match="constant padding must be on for both"):
        SiglipTask(config, processor())
    SiglipTask(config, processor(constant=True))


def test_named_sizes_have_the_published_numbers_of_parameters() -> None:
    """OpenAI's have 151.3, 149.6, 427.6 and, with a ResNet, 102.0 million; Google's SigLIP B/16 at 224 has 203.2."""
    with torch.device("meta"):
        sizes = [
            (clip.Clip(config, (0.5,) * 3, (0.5,) * 3), millions)
            for config, millions in (
                (clip.Config.vit_b32(), 151.28),
                (clip.Config.vit_b16(), 149.62),
                (clip.Config.vit_l14(), 427.62),
                (clip.Config.rn50(), 102.01),
            )
        ]
        google = siglip.Siglip(siglip.Config.vit_b16(), (0.5,) * 3, (0.5,) * 3)
    for module, millions in [*sizes, (google, 203.16)]:
        assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_default_vision_towers_are_the_published_ones() -> None:
    assert clip.Config.vit_b32().vision == VisionConfig(
        224, 32, 768, 12, 12, 3072, "cls", pre_norm=True, patch_bias=False, eps=1e-5
    )
    assert (siglip.Config().vision.pooling, siglip.Config().vision.eps, siglip.Config().text.eps) == ("map", 1e-6, 1e-6)
