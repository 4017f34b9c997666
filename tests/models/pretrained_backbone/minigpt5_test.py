"""MiniGPT-5: losses, gradients and pictures against the parts of transformers and diffusers; vokens; what is frozen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_pipeline import pipeline
from tiny_public import randomise
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.adapters.language import LanguageAdapterConfig
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError, DiptychError, TextTooLong
from diptych.core.losses import IGNORED, total
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.sampling import ImageSampling, TextSampling
from diptych.core.seeding import hash_to_int, normal_like
from diptych.core.visual import Image
from diptych.data.batches.conversation_reader import ConversationTokens
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import SceneDocuments, Scenes
from diptych.layers.weight_hash import weight_hash
from diptych.models.generative import stable_diffusion
from diptych.models.generative._caption_dropout import untold
from diptych.models.generative.stable_diffusion import StableDiffusionPredictor
from diptych.models.pretrained_backbone import minigpt5
from diptych.models.pretrained_backbone._llama import described, public_state
from diptych.models.pretrained_backbone._tiny_parts import tiny_encoder_decoder, tiny_parts
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm
from diptych.models.pretrained_backbone._voken_mapper import FeatureMapper, MapperConfig
from diptych.models.pretrained_backbone._voken_rows import VokenBatch, VokenProcessor, asked_of
from diptych.models.pretrained_backbone._vokens import VokenGrammar, VokenLanguage
from diptych.objectives.diffusion import drawn_noise, drawn_steps

PAGES = SceneDocuments("train", 8, SceneConfig(32, 1, words=0.0))
PAIRS = Scenes("train", 8, SceneConfig(32, 1, words=0.0))
PROMPT = ["a picture", PAGES[0].visuals[0]]
SAMPLES = [PAIRS[index] for index in range(8)]


def tiny(stage: str = "alignment") -> minigpt5.MiniGpt5Task:
    torch.manual_seed(0)
    task = minigpt5.tiny_tasks(SAMPLES)[stage]
    randomise(task.model.language)
    randomise(task.model.mapper)
    return task


def batch_of(task: minigpt5.MiniGpt5Task, source: Any = PAIRS) -> VokenBatch:
    return next(iter(evaluation_batches(source, task.processor, 8)))


@pytest.fixture(scope="module")
def on_diffusers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, minigpt5.MiniGpt5Task]:
    """A pipeline of diffusers, and a MiniGPT-5 on its folder."""
    folder = tmp_path_factory.mktemp("diffusers")
    theirs = pipeline(folder)
    ours = load(folder / "pipeline")
    assert isinstance(ours, StableDiffusionPredictor)
    talk, tower, language = tiny_parts(SAMPLES, 16)
    config = minigpt5.Config(
        adapter=LanguageAdapterConfig(), diffusion=ours.config, vokens=3, mapper=MapperConfig(2, 3, 2)
    )  # fmt: skip
    task = minigpt5.MiniGpt5Task(config, talk, ours.processor, tower, language, ours.module.state_dict())
    randomise(task.model.language)
    randomise(task.model.mapper)
    return theirs, task


def voiced(task: minigpt5.MiniGpt5Task) -> Any:
    """The language model of transformers with the vokens' rows behind its own."""
    language = task.model.language
    inside: Any = language.language
    config = transformers.LlamaConfig(**{**described(inside.config), "vocab_size": language.vocabulary})
    theirs = transformers.LlamaForCausalLM(config)
    state = public_state(inside)
    for name, rows in (("model.embed_tokens.weight", language.embedding_KD), ("lm_head.weight", language.head_KD)):
        state[name] = torch.cat([state[name], rows.detach()])
    theirs.load_state_dict(state)
    return theirs.double().eval()


def mapper_of(task: minigpt5.MiniGpt5Task) -> tuple[nn.Module, nn.Transformer, Tensor]:
    """The released code's feature mapper with the same weights."""
    ours, config, width = task.model.mapper, task.config.mapper, task.config.diffusion.text.width
    whole = nn.Transformer(
        width, config.heads, config.depth, config.depth, config.hidden * width, 0.0, batch_first=True, norm_first=True
    )
    whole.encoder.load_state_dict(ours.encoder.state_dict())
    whole.decoder.load_state_dict(ours.decoder.state_dict())
    return ours.into, whole.double(), ours.queries_QX.detach().clone().requires_grad_()


def reference_losses(
    theirs: Any, task: minigpt5.MiniGpt5Task, batch: VokenBatch, language: Any, whole: nn.Transformer, queries: Tensor
) -> dict[str, Tensor]:
    """As model.py of the released code has them: labels that the library shifts, states before each voken."""
    told, drawn, first = batch.told, batch.drawn, task.model.language.first
    seen = torch.arange(told.tokens_BT.shape[1]) < told.lengths_B[:, None]
    labels = torch.where(seen, told.labels_BT, IGNORED)
    found = language(input_ids=told.tokens_BT, attention_mask=seen.long(), output_hidden_states=True)
    words = F.cross_entropy(found.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())  # the library's is in float32
    dropped = untold(drawn.seeds, task.config.diffusion.drop)
    assert bool(dropped.any()) and not bool(dropped.all())
    vokens = []
    for row, place in (labels == first).nonzero().tolist():
        states = found.hidden_states[-1][row, place - 1 : place - 1 + task.config.vokens]
        vokens.append(torch.zeros_like(states) if dropped[row] else states)
    told_states = whole(task.model.mapper.into(torch.stack(vokens)), queries.expand(len(vokens), -1, -1))
    latents = task.model.diffusion.autoencoder.latents(
        drawn.pixels_BCHW, [hash_to_int("latent", seed) for seed in drawn.seeds]
    )
    steps, noise = drawn_steps(drawn.seeds, 1000), drawn_noise(drawn.seeds, latents)
    noised = theirs.scheduler.add_noise(latents, noise, steps)
    said = theirs.unet(noised, steps, encoder_hidden_states=told_states).sample
    captions = torch.full((len(drawn.seeds), 12), theirs.tokenizer.pad_token_id)
    captions[:, : drawn.tokens_BT.shape[1]] = drawn.tokens_BT
    captions[dropped] = torch.tensor(task.processor.drawing.tokens([""])[0][0])
    with torch.no_grad():
        wanted = theirs.text_encoder(captions).last_hidden_state
    return {"text": words, "denoising": F.mse_loss(said, noise), "caption": F.mse_loss(told_states, wanted)}


@pytest.mark.parity("minigpt5", "transformers and diffusers, their parts put together", "losses, gradients", part=True)
def test_losses_and_gradients_are_those_of_transformers_and_diffusers(
    on_diffusers: tuple[Any, minigpt5.MiniGpt5Task],
) -> None:
    """In float64: 0.01 text + denoising + 0.1 caption, and what they ask of vokens, first maps, blocks and queries."""
    theirs, task = on_diffusers
    theirs.unet.double(), theirs.text_encoder.double(), task.double()
    config = task.config
    task.config = replace(config, diffusion=replace(config.diffusion, drop=0.4))
    batch = batch_of(task)
    language, (_, whole, queries) = voiced(task), mapper_of(task)
    assert queries.dtype == torch.float64
    wanted = reference_losses(theirs, task, batch, language, whole, queries)
    (0.01 * wanted["text"] + wanted["denoising"] + 0.1 * wanted["caption"]).backward()
    into = {name: p.grad.clone() for name, p in task.model.mapper.into.named_parameters()}
    task.zero_grad()
    losses = task.losses(batch)
    total(losses).backward()
    task.config = config
    for name, part in losses.items():
        torch.testing.assert_close(part.value, wanted[name], rtol=1e-6, atol=1e-9)
    ours, close = task.model, {"rtol": 1e-3, "atol": 1e-4}  # transformers' norms are in float32
    first = ours.language.first
    rows = {"embedding_KD": language.model.embed_tokens, "head_KD": language.lm_head}
    for name, part in rows.items():
        torch.testing.assert_close(getattr(ours.language, name).grad, part.weight.grad[first:], **close)
    for name, parameter in ours.mapper.into.named_parameters():
        torch.testing.assert_close(parameter.grad, into[name], **close)
    torch.testing.assert_close(ours.mapper.queries_QX.grad, queries.grad, **close)
    for side in ("encoder", "decoder"):
        found, there = getattr(ours.mapper, side), getattr(whole, side)
        for (name, one), (_, other) in zip(found.named_parameters(), there.named_parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, **close, msg=name)
    theirs.unet.float(), theirs.text_encoder.float(), task.float()


@pytest.mark.parity("minigpt5", "diffusers StableDiffusionPipeline", "pictures of the same states", part=True)
@pytest.mark.parametrize("weight", [0.0, 1.0, 4.0])
def test_pictures_are_those_of_the_pipeline_that_is_given_the_same_states(
    on_diffusers: tuple[Any, minigpt5.MiniGpt5Task], weight: float
) -> None:
    theirs, task = on_diffusers
    ours, texts = task.predictor(), ["a red circle", "two small blue stars and a ring"]
    ours.module.eval()
    with torch.inference_mode():
        told = ours.module.mapper(ours.voken_states(texts))
        nothing = ours.module.mapper(torch.zeros(2, 3, ours.module.language.width))
        assert float((told[0] - told[1]).abs().max()) > 0.01
        wanted = theirs(
            prompt_embeds=told if weight else nothing, negative_prompt_embeds=nothing, guidance_scale=weight or 1.0,
            latents=normal_like([3, 4], (4, 8, 8)), num_inference_steps=6, output_type="np",
        ).images  # fmt: skip
        found = ours.pictures(ours.voken_states(texts), [3, 4], ImageSampling(guidance=weight, steps=6))
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), wanted, atol=2e-3)


@pytest.mark.parametrize("stage", ["alignment", "multimodal"])
def test_only_what_a_stage_trains_moves(stage: Any) -> None:
    """By hash: tower, connector, diffusion model and all of the language model but vokens and, in the second, LoRA."""
    talk, tower, language = tiny_parts(SAMPLES, 16, pictures=3)
    made = tiny()
    torch.manual_seed(1)
    task = minigpt5.MiniGpt5Task(made.config, talk, made.processor.drawing, tower, language, stage=stage)
    model = task.model
    whole = (model.tower, model.connector, model.diffusion)
    before, first = [weight_hash(part) for part in whole], {n: p.clone() for n, p in task.named_parameters()}
    groups = task.trainable()["main"]
    optimizer = torch.optim.AdamW([p for group in groups for p in group.parameters.values()], lr=1e-3)
    batch = batch_of(task, PAGES)
    for _ in range(2):
        optimizer.zero_grad()
        total(task.losses(batch)).backward()
        optimizer.step()
    assert [weight_hash(part) for part in whole] == before
    moved = {name for name, parameter in task.named_parameters() if not torch.equal(parameter, first[name])}
    inside = {name for name in moved if name.startswith("model.language.language.")}
    assert all("lora_" in name for name in inside) and bool(inside) == (stage == "multimodal")
    assert {"model.language.embedding_KD", "model.language.head_KD"} <= moved
    ends = {"model.mapper.queries_QX", "model.mapper.into.0.weight", "model.mapper.into.2.bias"}
    assert ends <= moved if stage == "alignment" else not ends & moved
    assert "model.mapper.encoder.layers.0.linear1.weight" in moved
    assert ("caption" in task.losses(batch)) == (stage == "alignment")
    fast = {name for group in groups if group.lr_scale == 10 for name in group.parameters}
    assert fast == ({name for name, _ in model.mapper.named_parameters()} if stage == "alignment" else set())


def test_of_a_tower_that_ignores_padding_the_caption_loss_has_none() -> None:
    """Summed by hand over every caption's own tokens, "" for those that are dropped."""
    made = tiny()
    talk, tower, language = tiny_parts(SAMPLES, 16)
    plain = stable_diffusion.tiny_tasks(SAMPLES)["epsilon"]
    config = replace(made.config, diffusion=replace(plain.config, drop=0.4))
    task = minigpt5.MiniGpt5Task(config, talk, plain.processor, tower, language)
    randomise(task.model)
    batch = batch_of(task)
    dropped = untold(batch.drawn.seeds, 0.4)
    assert 0 < int(dropped.sum()) < 8
    with torch.no_grad():
        told = task.model.mapped(task.model.voken_states(task.model(batch.told)), dropped).states_BTX
        wanted = []
        for row, text in enumerate("" if gone else SAMPLES[at].texts[0] for at, gone in enumerate(dropped.tolist())):
            tokens, lengths = plain.processor.tokens([text])
            states = task.model.diffusion.text.tokens(tokens, lengths)[0]
            wanted.append(F.mse_loss(told[row, : len(states)], states))
        found = task.losses(batch)["caption"].value
    torch.testing.assert_close(found, torch.stack(wanted).mean(), rtol=1e-4, atol=1e-6)


def test_the_picture_pulls_on_vokens_and_mapper_alone() -> None:
    """The error of the noise asks nothing of the vokens' head, nor of the last voken, which nobody reads after."""
    task = tiny()
    task.model.diffusion.unet.requires_grad_(False)
    total({"denoising": task.losses(batch_of(task))["denoising"]}).backward()
    pulled = {name for name, p in task.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    assert all(name == "model.language.embedding_KD" or name.startswith("model.mapper.") for name in pulled)
    rows = task.model.language.embedding_KD.grad
    assert rows is not None and bool((rows[:-1].abs().sum(1) > 0).all()) and not bool(rows[-1].any())


def test_words_are_read_and_said_as_before() -> None:
    language = tiny().model.language
    tokens = torch.randint(language.first, (2, 7), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(language.embed(tokens), language.language.embed(tokens), rtol=0, atol=0)
    states = torch.randn(2, 7, language.width)
    torch.testing.assert_close(
        language.logits(states)[..., : language.first], language.language.logits(states), rtol=0, atol=0
    )
    torch.manual_seed(0)
    fresh = VokenLanguage(language.language, 2)
    read_VD = language.language.embed(torch.arange(language.first)[None])[0]
    torch.testing.assert_close(fresh.embedding_KD[1], read_VD.mean(0))
    inside: Any = language.language
    torch.testing.assert_close(fresh.head_KD[0], inside.head.weight.mean(0))


def test_a_mapper_begins_with_blocks_that_differ_and_refuses_heads_that_do_not_divide() -> None:
    made = FeatureMapper(MapperConfig(2, 2, 2), 12, 8, 5)
    first, second = (layer.linear1.weight for layer in made.encoder.layers)
    assert not torch.equal(first, second) and made(torch.randn(3, 4, 12)).shape == (3, 5, 8)
    with pytest.raises(ConfigError, match=r"heads 3 do not divide the text's width of 8"):
        FeatureMapper(MapperConfig(1, 3), 12, 8, 5)


def test_vokens_come_whole_and_in_order() -> None:
    grammar = VokenGrammar(4, 3, 2)
    assert grammar.allowed().tolist() == [[True] * 5 + [False] * 2] * 2
    grammar.advance(torch.tensor([2, 4]))
    assert grammar.allowed().tolist() == [[True] * 5 + [False] * 2, [False] * 5 + [True, False]]
    grammar.advance(torch.tensor([4, 5]))
    grammar.select(torch.tensor([1, 0]))
    assert grammar.allowed().int().argmax(1).tolist() == [6, 5]
    grammar.advance(torch.tensor([6, 5]))
    assert grammar.allowed().tolist() == [[True] * 5 + [False] * 2, [False] * 6 + [True]]


def eager(kind: str) -> minigpt5.MiniGpt5Predictor:
    """A model that begins with a picture, on our trunk or on one of transformers."""
    made = tiny()
    talk, tower, language = tiny_parts(SAMPLES, 16, pictures=3)
    chosen: Any = language
    if kind == "gpt2":
        sizes = {"vocab_size": language.vocabulary, "n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 256}
        gpt2: Any = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).eval()
        chosen = TransformersLm(gpt2)
    drawing = made.processor.drawing
    task = minigpt5.MiniGpt5Task(made.config, talk, drawing, tower, chosen)
    randomise(task.model.language)
    randomise(task.model.mapper)
    predictor = task.predictor()
    predictor.module.eval()
    with torch.no_grad():
        row, whole = predictor._vectors([predictor._opened(PROMPT)], PROMPT[1:])[0], predictor.module.language
        state = whole(row[None], torch.tensor([len(row)]))[0, -1]
        whole.head_KD[0] = state * (whole.language.logits(state).max() + 1) / state.square().sum()
    return predictor


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_document_is_what_is_likeliest_without_a_cache_and_its_pictures_are_its_vokens(kind: str) -> None:
    """Token by token by whole passes, the order of vokens kept by hand; each picture from the states that say it."""
    model = eager(kind)
    parts, language = PROMPT, model.module.language
    (read,) = [model._opened(parts)]
    row, tokens = model._vectors([read], parts[1:])[0], list[int]()
    with torch.inference_mode():
        for _ in range(24):
            x = torch.cat([row, language.embed(torch.tensor([tokens], dtype=torch.int64))[0]])[None]
            logits = language.logits(language(x, torch.tensor([x.shape[1]])))[0, -1]
            due = tokens[-1] + 1 if tokens and language.first <= tokens[-1] < language.vocabulary - 1 else None
            tokens.append(due if due is not None else int(logits[: language.first + 1].argmax()))
            if tokens[-1] == model.processor.tokenizer.end_id:
                tokens.pop()
                break
        assert language.first in tokens, "this model says a voken"
        found = model.continue_document(parts, TextSampling(max_tokens=24))
        x = torch.cat([row, language.embed(torch.tensor([tokens]))[0]])[None]
        states = language(x, torch.tensor([x.shape[1]]))[0]
    starts = [len(row) + at for at, token in enumerate(tokens) if token == language.first and at + 3 <= len(tokens)]
    pictures = [part for part in found if isinstance(part, Image)]
    assert len(pictures) == len(starts) > 0
    said = torch.stack([states[at - 1 : at + 2] for at in starts])
    seeds = [hash_to_int("picture of a document", 0, place) for place in range(len(starts))]
    pixels = model.pictures(said, seeds).permute(0, 2, 3, 1).numpy()
    for one, wanted in zip(pictures, pixels, strict=True):
        assert one.pixels_HWC is not None
        np.testing.assert_allclose(one.pixels_HWC / 255, wanted, atol=0.01)
    texts, words = [part for part in found if isinstance(part, str)], model.processor.tokenizer
    runs = "".join(" " if token >= language.first else chr(token + 1000) for token in tokens).split()
    assert texts == [text for run in runs if (text := words.decode([ord(one) - 1000 for one in run]).strip())]


def test_without_a_voken_there_is_no_picture() -> None:
    model = eager("llama")
    assert any(isinstance(part, Image) for part in model.continue_document(PROMPT, TextSampling(max_tokens=12)))
    with torch.no_grad():
        model.module.language.head_KD.zero_()  # some word's logit is above 0 always
    found = model.continue_document(PROMPT, TextSampling(max_tokens=12))
    assert found and all(isinstance(part, str) for part in found)


def test_rows_end_in_vokens_before_the_end_and_documents_are_read_up_to_a_picture() -> None:
    task = tiny()
    batch = batch_of(task, PAGES)
    vokens, end = task.processor.vokens, task.processor.talk.tokenizer.end_id
    for row in range(8):
        length = int(batch.told.lengths_B[row])
        assert batch.told.tokens_BT[row, length - 4 : length].tolist() == [*vokens, end]
        assert batch.told.labels_BT[row, length - 4 : length].tolist() == [*vokens, end]
        page = PAGES[row]
        asked = asked_of(page, "", None)
        assert asked.picture is page.parts[-1] and asked.text == page.parts[-2] == asked.turns[-1].text
        assert batch.told.counts[row] == len(page.visuals) - 1 == asked.turns[0].text.count("<image>")
    previews = task.processor.preview(batch)
    assert previews[0].text.endswith("[3 vokens of a picture]") and "<pad>" not in previews[0].text


def test_a_conversation_whose_answer_is_a_picture_is_read_as_it_is() -> None:
    one, two = (PAIRS[index].visuals[0] for index in range(2))
    turns = (Turn("user", "<image>\nmake it red"), Turn("assistant", "here it is: <image>"))
    asked = asked_of(Sample("k", (one, two), turns=turns), "", None)
    assert asked.turns == (turns[0], Turn("assistant", "here it is:")) and asked.shown == (one,)
    assert asked.picture is two and asked.text == "here it is:"


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (Sample("k", texts=("a dog",)), "k: no image"),
        (Sample("k", PAIRS[0].visuals), "k: no caption"),
        (Sample("k", parts=(PAIRS[0].visuals[0], "a dog")), "k: no text before a picture"),
    ],
)
def test_samples_that_teach_no_picture_are_refused_by_key(sample: Sample, said: str) -> None:
    with pytest.raises(BadSample, match=said):
        asked_of(sample, "", None)


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    task = tiny()
    talk = task.processor.talk
    short = ConversationProcessor(replace(talk.config, max_length=24), talk.tokenizer, talk.template)
    made = VokenProcessor(short, task.processor.drawing, task.processor.vokens)
    read = ConversationTokens([1] * 22, [1] * 22, [False] * 22)
    with pytest.raises(BadSample, match="22 tokens and 3 vokens of the picture that follows, and 24 fit"):
        made.with_vokens(read, "k")
    model = task.predictor()
    with pytest.raises(TextTooLong):
        model.generate_image(["a very small red circle " * 60])
    with pytest.raises(DiptychError, match="has no words"):
        model.generate_image([" "])
    with pytest.raises(ConfigError, match="temperature"):
        model.generate_image(["a star"], 0, ImageSampling(temperature=1.0))
    with pytest.raises(ConfigError, match="beams"):
        model.continue_document(["a star"], TextSampling(beams=2))


def test_parts_that_do_not_fit_are_refused() -> None:
    task = tiny()
    talk, tower, language = tiny_parts(SAMPLES, 16)
    config, drawing = task.config, task.processor.drawing
    short = replace(drawing.config, text=replace(drawing.config.text, max_length=20))
    with pytest.raises(ConfigError, match="padded to 20 tokens beside 24"):
        minigpt5.MiniGpt5Task(config, talk, ImageTextProcessor(short, drawing.tokenizer), tower, language)
    with pytest.raises(ConfigError, match="causal language model"):
        minigpt5.MiniGpt5Task(
            replace(config, adapter=replace(config.adapter, method="none")), talk, drawing, tower,
            tiny_encoder_decoder(talk.tokenizer),
        )  # fmt: skip
    with pytest.raises(ConfigError, match="vokens do not go with prompt tuning"):
        replace(config, adapter=replace(config.adapter, method="prompt"))
