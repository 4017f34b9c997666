"""What FLAVA's rows see, what its terms ask and cost, what they train, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from contract import eight_samples, whole_batch

from diptych.core.errors import ConfigError, DataError, DiptychError
from diptych.core.losses import total
from diptych.core.seeding import seed_everything
from diptych.data.batches.mixed_pairs import Kind, Masks, MixedBatch, MixedPairsProcessor
from diptych.data.words.cloze import cloze_ids, word_ids
from diptych.data.words.tokenizer import Tokenizer, pad_tokens
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.masked._flava_codes import DalleCodes, GivenCodes, VqCodes
from diptych.models.masked._flava_module import words_of
from diptych.models.masked._flava_predictor import FlavaPredictor
from diptych.models.masked._flava_rows import asked_places, images_of, planned, texts_of
from diptych.models.masked._flava_terms import Weights, check_kinds
from diptych.models.masked.flava import Config, FlavaTask, tiny_tasks

TERMS = ("mim", "mlm", "contrastive", "mmm_image", "mmm_text", "itm")


@pytest.fixture(scope="module")
def task() -> FlavaTask:
    seed_everything("flava")
    made = tiny_tasks(eight_samples())["mixed"]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.double().eval()


@pytest.fixture(scope="module")
def batch(task: FlavaTask) -> MixedBatch:
    found = whole_batch(task, eight_samples())
    assert isinstance(found, MixedBatch) and set(found.kinds) == set(Kind)
    return found


def alone(task: FlavaTask, weights: Weights) -> FlavaTask:
    """The same model for other terms."""
    seed_everything("flava")
    return FlavaTask(task.config, task.processor, weights)


def only(term: str) -> Weights:
    return Weights(**{name: float(name == term) for name in TERMS})


@torch.no_grad()
def test_nothing_of_a_hidden_patch_goes_in(task: FlavaTask, batch: MixedBatch) -> None:
    plan = planned(batch, task.weights)
    places = asked_places(batch, plan, task.weights)
    masked = replace(batch, pixels_BCHW=task.model.normalise(batch.pixels_BCHW))
    hidden = batch.hidden_BP.reshape(-1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.randn(masked.pixels_BCHW.shape, dtype=torch.float64)
    other = replace(masked, pixels_BCHW=torch.where(hidden, noise, masked.pixels_BCHW))
    outputs = [task.model(images_of(one, plan), texts_of(one, plan), places) for one in (masked, other)]
    assert torch.equal(outputs[0].image_NTD, outputs[1].image_NTD)
    assert torch.equal(outputs[0].fused_FMD, outputs[1].fused_FMD)
    assert not torch.equal(outputs[0].image_MD, outputs[1].image_MD)  # rows that are compared see whole pictures
    shown = replace(masked, pixels_BCHW=torch.where(hidden, masked.pixels_BCHW, noise))
    again = task.model(images_of(shown, plan), texts_of(shown, plan), places)
    assert not torch.equal(outputs[0].image_NTD, again.image_NTD)


@torch.no_grad()
def test_encoders_see_their_own_side_and_the_fusion_both(task: FlavaTask, batch: MixedBatch) -> None:
    pixels, tokens, lengths = task.model.normalise(batch.pixels_BCHW), batch.tokens_BT, batch.lengths_B
    other_pixels = pixels.clone()
    other_pixels[:, :, :8, :8] += 1  # the first patch
    other_tokens = tokens.clone()
    other_tokens[torch.arange(8), lengths - 2] += 1  # the last word
    hidden = task.model.nothing_hidden(8, torch.device("cpu"))
    states = task.model.fuse(pixels, hidden, tokens, lengths)
    by_pixels = (task.model.fuse(other_pixels, hidden, tokens, lengths) - states).abs().amax(-1)
    by_words = (task.model.fuse(pixels, hidden, other_tokens, lengths) - states).abs().amax(-1)
    for row, length in enumerate(lengths.tolist()):
        assert (by_pixels[row, : 18 + length] > 1e-9).all() and (by_words[row, : 18 + length] > 1e-9).all()
    text = task.model.text.states(task.model.text.embedded(tokens), lengths)
    changed = (task.model.text.states(task.model.text.embedded(other_tokens), lengths) - text).abs().amax(-1)
    assert (changed[:, 0] > 1e-9).all()  # a token sees what comes after it
    image = task.model.image.states(pixels, hidden, 8).states_NTD
    assert (task.model.image.states(other_pixels, hidden, 8).states_NTD - image).abs().amax(-1).min() > 1e-9


@torch.no_grad()
def test_padding_is_seen_by_nobody(task: FlavaTask, batch: MixedBatch) -> None:
    pixels, hidden = batch.pixels_BCHW[:2], batch.hidden_BP[:2]
    tokens, lengths = batch.tokens_BT[:2], batch.lengths_B[:2]
    longer = torch.cat([tokens, torch.full((2, 5), 7)], dim=1)
    found = task.model.fuse(pixels, hidden, longer, lengths)
    expected = task.model.fuse(pixels, hidden, tokens, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, : 18 + length], expected[row, : 18 + length])
    torch.testing.assert_close(task.model.encode_text(longer, lengths), task.model.encode_text(tokens, lengths))


def test_fresh_losses_are_the_logs_of_what_there_is_to_choose_from() -> None:
    seed_everything("fresh")
    task = tiny_tasks(eight_samples())["mixed"]
    found = task.losses(whole_batch(task, eight_samples()))
    words = task.processor.tokenizer.vocab_size
    for name, choices in (("mim", 32), ("mmm_image", 32), ("mlm", words), ("mmm_text", words), ("itm", 2)):
        assert float(found[name].value.detach()) == pytest.approx(math.log(choices), rel=0.1), name
    with torch.no_grad():
        task.model.log_scale.fill_(0.0)  # at a scale of 14, four fresh vectors already differ by chance
    found = task.losses(whole_batch(task, eight_samples()))
    assert float(found["contrastive"].value.detach()) == pytest.approx(math.log(4), abs=0.3)


def test_matching_is_the_cross_entropy_of_the_answer_over_all_pairs(task: FlavaTask, batch: MixedBatch) -> None:
    pairs = batch.places(Kind.MATCHED, Kind.MISMATCHED)
    with torch.no_grad():
        pixels, hidden = batch.pixels_BCHW[pairs], batch.hidden_BP[pairs]
        states = task.model.fuse(pixels, hidden, batch.masked_BT[pairs], batch.lengths_B[pairs])
        logits = task.model.itm(task.model.fusion.norm_post(states[:, 0]))
        answers = torch.tensor([int(batch.kinds[row] is Kind.MATCHED) for row in pairs])
        expected = -logits.log_softmax(-1)[torch.arange(len(pairs)), answers].sum()
        torch.testing.assert_close(task.losses(batch)["itm"].sum, expected)


@pytest.mark.parametrize("term", TERMS)
def test_one_term_alone_trains_what_it_reaches_and_freezes_the_rest(task: FlavaTask, term: str) -> None:
    single = alone(task, only(term))
    batch = whole_batch(single, eight_samples())
    losses = single.losses(batch)
    assert {name for name, part in losses.items() if part.weight} == {term}
    assert single.counts(batch) == {name: part.count for name, part in losses.items() if part.scope == "mean"}
    total(losses).backward()  # type: ignore[no-untyped-call]
    named = dict(single.named_parameters())
    dead = [n for n, p in named.items() if p.requires_grad and (p.grad is None or not bool(p.grad.any()))]
    assert dead == []
    reached = {name.split(".")[1] for name, p in named.items() if p.requires_grad}
    both = {"image", "text", "fusion"}
    assert reached == {
        "mim": {"image", "mim"},
        "mlm": {"text", "mlm"},
        "contrastive": {"image", "text", "image_head", "text_head", "log_scale"},
    }.get(term, both | {term})


@pytest.mark.parametrize("kind", list(Kind))
def test_a_batch_of_one_kind_trains_and_every_parameter_has_a_gradient(task: FlavaTask, kind: Kind) -> None:
    """Also one of zeros: a process that lacks one would keep the others waiting."""
    fresh = alone(task, Weights())
    batch = whole_batch(fresh, eight_samples())
    rows = batch.places(kind)
    part = batch.split(1)[rows[0]]
    losses = fresh.losses(part)
    assert set(losses) == set(TERMS)
    asked = {
        Kind.MATCHED: {"contrastive", "mmm_image", "mmm_text", "itm"},
        Kind.MISMATCHED: {"itm"},
        Kind.PICTURE: {"mim"},
        Kind.TEXT: {"mlm"},
    }
    assert {name for name, one in losses.items() if one.count} == asked[kind]
    total(losses).backward()  # type: ignore[no-untyped-call]
    for name, parameter in fresh.named_parameters():
        assert not parameter.requires_grad or (parameter.grad is not None and parameter.grad.isfinite().all()), name


def test_the_codebook_is_frozen_and_saved(task: FlavaTask) -> None:
    fresh = alone(task, Weights()).train()
    codebook = fresh.model.codebook
    assert codebook is not None and not codebook.training and fresh.model.image.training
    trained = {name for group in fresh.trainable()["main"] for name in group.parameters}
    assert not any("codebook" in name for name in trained)
    assert any(name.startswith("codebook.") for name in fresh.model.state_dict())


def test_the_codes_are_those_of_the_whole_picture_whatever_the_precision(task: FlavaTask, batch: MixedBatch) -> None:
    single = alone(task, Weights())
    assert single.model.codebook is not None
    expected = single.model.codebook.codes(batch.pixels_BCHW).flatten(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(single.model.codes(batch.pixels_BCHW), expected)


def test_pictures_are_resized_for_a_codebook_of_another_size(task: FlavaTask, batch: MixedBatch) -> None:
    codes = task.config.codes
    assert isinstance(codes, VqCodes)
    larger = replace(task.config, vision=VisionConfig(32, 4, 48, 2, 3, 96), codes=replace(codes, image_size=64))
    processor = task.processor
    made = FlavaTask(
        larger, MixedPairsProcessor(processor.config, processor.tokenizer, 8, processor.masks, processor.others)
    )
    found = made.model.codes(batch.pixels_BCHW)
    assert found.shape == (8, 64) and made.model.codebook is not None
    upscaled = torch.nn.functional.interpolate(batch.pixels_BCHW.float(), (64, 64), mode="bicubic", antialias=True)
    expected = made.model.codebook.codes(upscaled.round().clamp(0, 255).to(torch.uint8))
    assert torch.equal(found, expected.flatten(1))


def test_the_scale_stays_between_one_and_a_hundred(task: FlavaTask) -> None:
    fresh = alone(task, Weights())
    assert float(fresh.model.log_scale.detach()) == pytest.approx(2.6592)
    for value, kept in ((9.0, math.log(100)), (-1.0, 0.0)):
        with torch.no_grad():
            fresh.model.log_scale.fill_(value)
        fresh.after_step()
        assert float(fresh.model.log_scale.detach()) == pytest.approx(kept)


def predictor_of(task: FlavaTask) -> FlavaPredictor:
    return alone(task, Weights()).eval().predictor()


@torch.no_grad()
def test_a_word_is_chosen_by_the_mean_log_probability_of_its_tokens(task: FlavaTask) -> None:
    predictor, image = predictor_of(task), eight_samples()[0].image
    tokenizer, model = predictor.processor.tokenizer, predictor.module
    words = ["red", "zebra", "circle", "xylophone"]
    assert len({len(word_ids(tokenizer, word)) for word in words}) > 1
    scores = {}
    pixels = predictor.processor.pixels([image])
    for word in words:
        ids = word_ids(tokenizer, word)
        rows, lengths = pad_tokens([cloze_ids(tokenizer, "a [MASK] in the top", 64, len(ids))], tokenizer.pad_id)
        states = model.fuse(pixels, model.nothing_hidden(1, torch.device("cpu")), rows, lengths)
        log_p = model.mmm_text(model.fusion.norm_post(words_of(states, 16)))[0].log_softmax(-1)
        places = (rows[0] == tokenizer.mask_id).nonzero()[:, 0]
        scores[word] = float(torch.stack([log_p[p, i] for p, i in zip(places, ids, strict=True)]).mean())
    best = max(words, key=lambda word: scores[word])
    assert predictor.fill_text([image], ["a [MASK] in the top"], [words]) == [[best]]
    assert predictor.fill_text([image], ["a [MASK] in the top"], [words[::-1]]) == [[best]]


def test_texts_that_cannot_be_filled_are_refused(task: FlavaTask) -> None:
    predictor, image = predictor_of(task), eight_samples()[0].image
    with pytest.raises(DiptychError, match="the choices for"):
        predictor.fill_text([image], ["a [MASK]"], [[]])
    with pytest.raises(DiptychError, match="none of them empty"):
        predictor.fill_text([image], ["a [MASK]"], [["red", " "]])
    with pytest.raises(DiptychError, match="64 fit"):
        predictor.fill_text([image], ["a [MASK]" + " very" * 100])
    assert predictor.fill_text([image], ["nothing to fill"], [["red"]]) == [[]]


def test_nothing_hidden_gives_the_picture_and_everything_hidden_a_painting(task: FlavaTask) -> None:
    predictor, samples = predictor_of(task), eight_samples()[:2]
    images, texts = [one.image for one in samples], [one.texts[0] for one in samples]
    plain = predictor.processor.pixels(images).permute(0, 2, 3, 1)
    same = predictor.fill_image(images, texts, torch.zeros(2, 3, 3, dtype=torch.bool))
    assert all(torch.equal(torch.from_numpy(one.pixels_HWC), own) for one, own in zip(same, plain, strict=True))
    first, second = predictor.fill_image(images, [texts[0]] * 2, torch.ones(2, 2, 2, dtype=torch.bool))
    assert (first.pixels_HWC == second.pixels_HWC).all()  # of the same text: nothing of either picture is seen
    with pytest.raises(DiptychError, match="do not fit a picture"):
        predictor.fill_image(images, texts, torch.zeros(2, 40, 40, dtype=torch.bool))


@torch.no_grad()
def test_matching_scores_are_of_whole_pictures_and_texts(task: FlavaTask) -> None:
    predictor, samples = predictor_of(task), eight_samples()[:3]
    images, texts = [one.image for one in samples], [one.texts[0] for one in samples]
    model = predictor.module
    states = model.fuse(
        predictor.processor.pixels(images), torch.zeros(3, 16, dtype=torch.bool), *predictor.processor.tokens(texts)
    )
    logits = model.itm(model.fusion.norm_post(states[:, 0]))
    torch.testing.assert_close(predictor.score_pairs(images, texts), logits[:, 1] - logits[:, 0])
    assert predictor.how("score") == "cosine of encodings" and predictor.how("score_pairs") == "native"
    assert len(predictor.score_pairs([], [])) == 0 and len(predictor.encode_text([])) == 0


def test_data_that_can_never_give_a_term_are_refused_by_its_name() -> None:
    pairs = {Kind.MATCHED, Kind.MISMATCHED}
    with pytest.raises(ConfigError, match=r"term mim needs pictures alone, and these data give matched, mismatched"):
        check_kinds(Weights(mlm=0), pairs)
    with pytest.raises(ConfigError, match=r"term contrastive needs pairs, and these data give picture rows only"):
        check_kinds(Weights(), {Kind.PICTURE})
    with pytest.raises(ConfigError, match=r"masks\.mismatched"):
        check_kinds(Weights(mim=0, mlm=0), {Kind.MATCHED})
    check_kinds(Weights(mim=0, mlm=0), pairs)
    with pytest.raises(ConfigError, match="something to train on"):
        Weights(0, 0, 0, 0, 0, 0)


def test_what_does_not_fit_together_is_refused(task: FlavaTask) -> None:
    config, processor = task.config, task.processor
    assert isinstance(config.codes, VqCodes)

    def refused(wrong: Config, match: str, made: MixedPairsProcessor = processor) -> None:
        with pytest.raises(ConfigError, match=match):
            FlavaTask(wrong, made)

    refused(replace(config, codes=replace(config.codes, image_size=64)), r"8 x 8 codes .* 4 x 4 patches")
    refused(replace(config, codes=DalleCodes(image_size=36)), "cannot be cut into cells of 8")
    refused(replace(config, text=replace(config.text, context=8)), "do not fit a context of 8")
    refused(replace(config, text=replace(config.text, vocab_size=9)), "9 embeddings")
    refused(replace(config, vision=VisionConfig(64, 16, 48, 2, 3, 96)), "32 pixels, the image encoder takes 64")
    refused(replace(config, vision=replace(config.vision, pooling="mean")), "one class token")
    others = MixedPairsProcessor(processor.config, processor.tokenizer, 8, Masks(mismatched=0), None)
    refused(config, "a grid of 8 x 8", others)
    backend = processor.tokenizer.backend
    headless = Tokenizer(backend, None, 1, 2, 3)
    refused(config, "no start token", MixedPairsProcessor(processor.config, headless, 4, Masks(mismatched=0), None))
    given = FlavaTask(replace(config, codes=GivenCodes(32)), processor)
    with pytest.raises(ConfigError, match="no codebook"):
        given.losses(whole_batch(given, eight_samples()))
    with pytest.raises(DataError, match="longer than the context"):
        task.model.text.embedded(torch.zeros(1, 65, dtype=torch.int64))


def test_samples_without_anything_but_control_tokens_are_counted_as_bad(task: FlavaTask) -> None:
    samples = eight_samples()
    empty = replace(samples[0], key="empty", texts=("",))
    found = whole_batch(task, [*samples, empty])
    assert found.num_samples == 8 and "empty" not in found.keys
