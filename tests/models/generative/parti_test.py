"""Parti: exact likelihoods, who sees whom, guidance, ranking, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from diptych.core.errors import ConfigError, DiptychError, TextTooLong
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import hash_to_int
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.causal_block import CausalConfig
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.quantizer import QuantizerConfig
from diptych.layers.text_transformer import TextConfig
from diptych.models.generative import parti
from diptych.models.generative._picture_codes import VqPictures
from diptych.models.image_tokenizer import vq

WORDS = Tokenizer.fit(["a red circle", "a blue square", "two green stars"] * 3, 280)
CODES = 3


def predictor(reranker: bool = False) -> parti.PartiPredictor:
    """Pictures of 2 x 2 codes of three."""
    small = vq.Config(
        AutoencoderConfig((8,), blocks=1, latent=8, groups=4, attention=False, patch=8), QuantizerConfig(CODES, 4)
    )
    decoder = CausalConfig(16, 2, 2, 32, norm="layer", rotary=0.0, gated=False, bias=True, memory_width=16)
    ranks = parti.clip.Config.tiny(WORDS.vocab_size, 16) if reranker else None
    config = parti.Config(
        VqPictures(tokenizer=small, image_size=16), TextConfig(WORDS.vocab_size, 16, 16, 1, 2, 32, causal=False),
        decoder, ranks, guidance=1.0,
    )  # fmt: skip
    image = ImagePreprocessing(16, mean=vq.MEAN, std=vq.STD, views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(16)), WORDS)
    torch.manual_seed(0)
    module = parti.PartiPredictor.build(config, processor)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return parti.PartiPredictor(config, processor, module.double().eval(), "parti")


def chances(model: parti.PartiPredictor, text: str) -> dict[tuple[int, ...], float]:
    """The probability of every picture there is."""
    grids = list(itertools.product(range(CODES), repeat=4))
    with torch.no_grad():
        read = model.module.read(*model.processor.tokens([text] * len(grids)))
        codes = torch.tensor(grids)
        logs = model.module.logits(model.module(codes, read)).log_softmax(-1).gather(-1, codes[..., None])
    return dict(zip(grids, logs.sum((1, 2)).exp().tolist(), strict=True))


def test_the_probabilities_of_all_pictures_add_up_to_one_and_differ_by_text() -> None:
    model = predictor()
    first, second = chances(model, "a red circle"), chances(model, "a blue square")
    assert sum(first.values()) == pytest.approx(1) and sum(second.values()) == pytest.approx(1)
    assert max(abs(first[grid] - second[grid]) for grid in first) > 1e-3


def test_the_likelihood_of_a_picture_is_that_of_its_codes() -> None:
    model = predictor()
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    codes = model.module.tokenizer.codes(pixels).flatten(1).tolist()
    found = model.image_likelihood(["a red circle"] * 5, pixels)
    wanted = chances(model, "a red circle")
    assert found.log_N.exp().tolist() == pytest.approx([wanted[tuple(row)] for row in codes])
    assert found.counts_N.tolist() == [4] * 5
    nothing = chances(model, "")
    assert model.image_likelihood([None], pixels[:1]).log_N.exp().item() == pytest.approx(nothing[tuple(codes[0])])


def written(
    model: parti.PartiPredictor, texts: Sequence[str], seeds: Sequence[int], sampling: ImageSampling
) -> list[tuple[int, ...]]:
    """The codes that were drawn."""
    seen: list[tuple[int, ...]] = []
    decode = model.module.tokenizer.decode

    def noting(codes: torch.Tensor) -> torch.Tensor:
        seen.extend(tuple(row) for row in codes.flatten(1).tolist())
        return decode(codes)

    model.module.tokenizer.decode = noting  # type: ignore[method-assign,assignment]
    model.generate_image(texts, seeds, sampling)
    del model.module.tokenizer.decode
    return seen


def test_pictures_are_drawn_as_often_as_they_are_likely() -> None:
    model, count = predictor(), 4000
    seen = written(model, ["a red circle"] * count, list(range(count)), ImageSampling(guidance=1.0))
    wanted = chances(model, "a red circle")
    observed = np.array([seen.count(grid) for grid in wanted])
    expected = np.array(list(wanted.values())) * count
    usual = expected > 5
    chi = ((observed - expected)[usual] ** 2 / expected[usual]).sum()
    degrees = int(usual.sum()) - 1
    assert chi < degrees + 4 * np.sqrt(2 * degrees)


def test_guidance_mixes_logits_and_its_ends_are_one_stream() -> None:
    """Greedy under guidance w follows l_u + w (l_c - l_u), computed here without a cache."""
    model, text = predictor(), "a red circle"

    def greedy(weight: float) -> tuple[int, ...]:
        codes: list[int] = []
        for place in range(4):
            row = torch.tensor([[*codes, *[0] * (4 - len(codes))]])
            logits = []
            for said in (text, ""):
                read = model.module.read(*model.processor.tokens([said]))
                logits.append(model.module.logits(model.module(row, read))[0, place])
            codes.append(int((logits[1] + weight * (logits[0] - logits[1])).argmax()))
        return tuple(codes)

    with torch.no_grad():
        wanted = {weight: greedy(weight) for weight in (0.0, 1.0, 4.0)}
    for weight, codes in wanted.items():
        assert written(model, [text], [0], ImageSampling(guidance=weight, temperature=0.0)) == [codes], weight


def test_a_code_sees_only_what_comes_before_it_and_no_padding_of_the_text() -> None:
    model = predictor().module
    codes = torch.tensor([[0, 1, 2, 0]])
    tokens, lengths = torch.tensor([[0, 5, 6, 1]]), torch.tensor([4])
    with torch.no_grad():
        plain = model(codes, model.read(tokens, lengths))
        padded = model(codes, model.read(torch.tensor([[0, 5, 6, 1, 9, 9]]), lengths))
        changed = model(torch.tensor([[0, 1, 0, 0]]), model.read(tokens, lengths))
    torch.testing.assert_close(padded, plain, rtol=1e-9, atol=1e-9)
    moved = (changed - plain).abs().amax(-1)[0]
    assert moved[:3].max() == 0 and moved[3] > 1e-6


def test_of_several_the_best_by_the_contrastive_model_is_kept() -> None:
    model, text, seed = predictor(reranker=True), "a red circle", 7
    seeds = [seed, *(hash_to_int("candidate", seed, at) for at in (1, 2, 3))]
    each = [model._written([text], [one], ImageSampling(guidance=1.0)) for one in seeds]
    ranks = model.ranks(torch.cat(each), [text] * 4)
    (best,) = model.generate_image([text], [seed], ImageSampling(guidance=1.0, candidates=4))
    wanted = (each[int(ranks.argmax())][0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert best.pixels_HWC is not None and np.array_equal(best.pixels_HWC, wanted)
    assert len(set(ranks.tolist())) > 1


def test_what_cannot_be_drawn_is_refused() -> None:
    model = predictor()
    for texts, seeds, sampling, error, said in (
        (["a red circle"], 0, ImageSampling(candidates=2), ConfigError, "reranker"),
        (["a red circle"], 0, ImageSampling(steps=4), ConfigError, "diffusion"),
        (["a red circle"], [1, 2], ImageSampling(), ConfigError, "2 seeds for 1 texts"),
        ([" "], 0, ImageSampling(), DiptychError, "no words"),
        (["circle " * 40], 0, ImageSampling(), TextTooLong, "longer than the 16"),
    ):
        with pytest.raises(error, match=said):
            model.generate_image(texts, seeds, sampling)
    with pytest.raises(ConfigError, match="does not fit a text encoder"):
        replace(model.config, text=replace(model.config.text, width=32))


def test_training_drops_texts_by_the_samples_seeds() -> None:
    source = Scenes("train", 8, SceneConfig(32, 1))
    samples = [source[index] for index in range(8)]
    task = parti.tiny_tasks(samples)["plain"]
    (batch,) = evaluation_batches(source, task.processor, 8)
    for share, said in ((0.0, [sample.texts[0] for sample in samples]), (0.999999, [""] * 8)):
        one = parti.PartiTask(replace(task.config, drop=share), task.processor)
        one.load_state_dict(task.state_dict())
        with torch.no_grad():
            loss = one.eval().losses(batch)["codes"]
        wanted = -one.predictor().image_likelihood(said, batch.pixels_BCHW).log_N.sum()
        assert float(loss.sum) == pytest.approx(float(wanted), rel=1e-4)
