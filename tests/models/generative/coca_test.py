"""CoCa: who sees whom, what the losses are, and what prompts it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import eight_samples
from torch.nn import functional as F

from diptych.core.errors import ConfigError, DiptychError, TextTooLong
from diptych.core.sampling import TextSampling
from diptych.models.generative.coca import CocaTask, Weights, tiny_tasks
from diptych.objectives.contrastive import info_nce


def task(name: str = "cascade", seed: int = 0) -> CocaTask:
    made = tiny_tasks(eight_samples())[name].double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


def tokens(longest: int = 9) -> torch.Tensor:
    return torch.randint(5, 60, (2, longest), generator=torch.Generator().manual_seed(1))


def image(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    return (after - before).abs().amax(-1)


def test_words_are_blind_to_later_ones_and_the_end_sees_all_of_them() -> None:
    model, text, lengths = task().model, tokens(), torch.tensor([9, 9])
    changed = text.clone()
    changed[:, 5] = 61
    before, after = model.read(text, lengths), model.read(changed, lengths)
    assert moved(after.states_BTD, before.states_BTD)[:, :5].max() == 0
    assert moved(after.states_BTD, before.states_BTD)[:, 5:].min() > 1e-6
    assert moved(after.vector_BW, before.vector_BW).min() > 1e-6
    memory = model.see(image(0)).memory_BQD
    said = [model.logits(model.write(read.states_BTD, memory)) for read in (before, after)]
    assert moved(*said)[:, :5].max() == 0


def test_padding_and_its_length_touch_nothing() -> None:
    model, text = task().model, tokens()
    short = model.read(text[:, :4], torch.tensor([4, 4]))
    long = model.read(text, torch.tensor([4, 4]))
    torch.testing.assert_close(long.vector_BW, short.vector_BW, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(long.states_BTD[:, :4], short.states_BTD, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["cascade", "shared"])
def test_the_lower_half_sees_no_picture_and_the_upper_one_does(name: str) -> None:
    model, text, lengths = task(name).model, tokens(), torch.tensor([9, 7])
    read = model.read(text, lengths)
    one, other = (model.write(read.states_BTD, model.see(image(seed)).memory_BQD) for seed in (0, 1))
    assert moved(one, other).min() > 1e-6


def test_the_losses_are_the_papers_with_weights_one_and_two() -> None:
    made = task()
    samples = eight_samples()
    rows = made.processor
    arrays = {"pixels": torch.zeros(8, 32, 32, 3, dtype=torch.uint8)}
    views = [{"pixels": arrays["pixels"][i].numpy()} for i in range(8)]
    items = [rows.prepare(sample, None, view) for sample, view in zip(samples, views, strict=True)]
    batch = rows.collate(tuple(sample.key for sample in samples), arrays, items)
    parts = made.losses(batch)
    model = made.model
    seen, read = model.see(batch.pixels_BCHW), model.read(batch.tokens_BT, batch.lengths_B)
    logits = model.logits(model.write(read.states_BTD, seen.memory_BQD))
    caption = torch.stack([
        F.cross_entropy(logits[i, : n - 1], batch.tokens_BT[i, 1:n], reduction="sum")
        for i, n in enumerate(batch.lengths_B.tolist())
    ]).sum()  # fmt: skip
    torch.testing.assert_close(parts["caption"].sum, caption)
    assert parts["caption"].count == int(batch.lengths_B.sum()) - 8
    contrast = info_nce(seen.vector_BW, read.vector_BW, model.log_scale.exp())
    torch.testing.assert_close(parts["contrastive"].sum / 8, contrast)
    assert (parts["contrastive"].weight, parts["caption"].weight) == (1.0, 2.0)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


def test_the_likelihood_of_a_text_is_that_of_its_tokens_one_after_another() -> None:
    predictor = task().predictor()
    tokenizer, model = predictor.processor.tokenizer, predictor.module.float()
    found = predictor.text_likelihood([picture(0)], ["a red"], ["circle"])
    given = [tokenizer.start_id, *tokenizer.encode(["a red"], 64)[0][1:-1]]
    asked = [*tokenizer.encode(["circle"], 64)[0][1:-1], tokenizer.end_id]
    memory = model.see(predictor.processor.pixels([picture(0)])).memory_BQD
    wanted, so_far = 0.0, list(given)
    for token in asked:
        row = torch.tensor([so_far])
        states = model.write(model.read(row, torch.tensor([len(so_far)])).states_BTD, memory)
        wanted += model.logits(states)[0, -1].log_softmax(-1)[token].item()
        so_far.append(token)
    assert found.log_N.item() == pytest.approx(wanted, rel=1e-5)
    assert found.counts_N.item() == len(asked)


def test_captions_go_on_from_their_beginning_and_cached_steps_are_whole_passes() -> None:
    predictor = task().predictor()
    tokenizer, model = predictor.processor.tokenizer, predictor.module.float()
    prompts = [[picture(0)], [picture(1), "a small blue"], [picture(2), "one"]]
    said = predictor.generate_text(prompts, TextSampling(max_tokens=12))
    for (shown, *beginning), text in zip(prompts, said, strict=True):
        ids = [tokenizer.start_id, *(tokenizer.encode([" ".join(beginning)], 64)[0][1:-1] if beginning else [])]
        begun = len(ids)
        memory = model.see(predictor.processor.pixels([shown])).memory_BQD
        while len(ids) - begun < 12 and ids[-1] != tokenizer.end_id:
            states = model.write(model.read(torch.tensor([ids]), torch.tensor([len(ids)])).states_BTD, memory)
            ids.append(int(model.logits(states)[0, -1].argmax()))
        assert text == tokenizer.decode(ids[begun:]).strip()


def test_prompts_that_it_cannot_take_are_refused_with_what_it_takes() -> None:
    predictor = task().predictor()
    predictor.module.float()
    for prompt, said in ((["a cat"], "0 pictures and 1 texts"), ([picture(0), picture(1)], "2 pictures and 0 texts"),
                         (["see", picture(0)], "1 pictures and 1 texts")):  # fmt: skip
        with pytest.raises(DiptychError, match=said):
            predictor.generate_text([prompt])
    with pytest.raises(TextTooLong, match="leaves no room to go on in 128"):
        predictor.generate_text([[picture(0), "red " * 140]])
    with pytest.raises(TextTooLong, match="of which 128 fit"):
        predictor.text_likelihood([None], [""], ["red " * 140])
    with pytest.raises(ConfigError, match="2 seeds for 1 prompts"):
        predictor.generate_text([[picture(0)]], seeds=[1, 2])
    with pytest.raises(ConfigError, match="both losses train CoCa"):
        Weights(caption=0)
