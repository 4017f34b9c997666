"""LLaVA against transformers' LlavaForConditionalGeneration, all of it random; what is trained, what is answered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_public import randomise, write_preprocessor

from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError, DiptychError, TextTooLong
from diptych.core.losses import IGNORED
from diptych.core.sampling import TextSampling
from diptych.core.visual import Image
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.chat import IMAGE
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._prefixed import Trained

SIDE, SLOTS, VOCABULARY, PICTURE = 16, 4, 330, 329
_LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 96,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
LANGUAGES: dict[str, Any] = {"llama": transformers.LlamaConfig(**_LLAMA), "qwen2": transformers.Qwen2Config(**_LLAMA)}
SOURCE = Scenes("train", 12, SceneConfig(32, 1, words=0.0))


def folder_in(path: Path, language: str = "llama", **changes: Any) -> Any:
    """Writes a folder; the model in float64."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=8
    )
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=LANGUAGES[language], image_token_index=PICTURE, **changes
    )
    model: Any = transformers.LlavaForConditionalGeneration(config)
    randomise(model)
    model.eval().save_pretrained(path)
    Tokenizer.fit(["what is this? a red circle USER: ASSISTANT:"], 300).write(path / "tokenizer.json")
    crop = {"do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}
    write_preprocessor(path, {"shortest_edge": SIDE}, **crop)
    return model.double()


def picture(seed: int) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image(pixels_HWC=pixels, name="noise")


@pytest.mark.parity("llava", "transformers LlavaForConditionalGeneration", "states, logits")
@pytest.mark.parametrize("language", LANGUAGES)
def test_states_and_logits_are_those_of_transformers(tmp_path: Path, language: str) -> None:
    theirs = folder_in(tmp_path, language)
    ours = load(tmp_path)
    assert isinstance(ours, llava.LlavaPredictor)
    ours.module.double()
    read = [ours._opened(prompt) for prompt in (["what is this?", picture(0)], [picture(1), "and", picture(2)], ["hm"])]
    pictures = [picture(seed) for seed in range(3)]
    rows = ours._vectors(read, pictures)
    at = 0
    for one, row in zip(read, rows, strict=True):
        count = sum(one.places) // SLOTS
        ids = torch.tensor([[PICTURE if shown else token for token, shown in zip(one.tokens, one.places, strict=True)]])
        pixels = ours.pixels(pictures[at : at + count]) if count else None
        at += count
        normalised = None if pixels is None else (pixels / 255 - ours.module.tower.mean_C11) / ours.module.tower.std_C11
        wanted = theirs(input_ids=ids, pixel_values=normalised).logits
        found = ours.module.logits(ours.module.language(row[None], torch.tensor([len(row)])))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)  # rotary angles are float32 on both sides


@pytest.mark.parity("llava", "transformers LlavaForConditionalGeneration", "greedy answers")
def test_greedy_answers_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = folder_in(tmp_path)
    ours = load(tmp_path)
    ours.module.double()
    words = ours.processor.tokenizer
    prompts = [["what is this?", picture(0)], [picture(1)], ["a red", picture(2), "circle?"]]
    said = ours.generate_text(prompts, TextSampling(10))
    for prompt, text in zip(prompts, said, strict=True):
        one = ours._opened(prompt)
        ids = torch.tensor([[PICTURE if shown else token for token, shown in zip(one.tokens, one.places, strict=True)]])
        pixels = ours.pixels([part for part in prompt if not isinstance(part, str)])
        normalised = (pixels / 255 - ours.module.tower.mean_C11) / ours.module.tower.std_C11
        found = theirs.generate(
            input_ids=ids, pixel_values=normalised, max_new_tokens=10, do_sample=False, eos_token_id=words.end_id,
            pad_token_id=words.pad_id,
        )[0, ids.shape[1] :].tolist()  # fmt: skip
        assert text == words.decode([token for token in found if token != words.end_id]).strip()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act 'relu' is not done"),
        ({"vision_feature_select_strategy": "odd"}, "'odd' is none of default, full"),
        ({"vision_feature_layer": [-2, -5]}, "several layers"),
    ],
)
def test_what_is_not_done_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder_in(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ConfigError, match=said):
        load(tmp_path)


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    folder_in(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for gone in (
        "multi_modal_projector.linear_2.bias",
        "vision_tower.pre_layrnorm.bias",
        "language_model.model.norm.weight",
    ):
        save_file({name: one for name, one in weights.items() if name != gone}, tmp_path / "model.safetensors")
        with pytest.raises(DiptychError, match=r"norm|linear_2"):
            load(tmp_path)


def tiny(kind: str) -> llava.LlavaTask:
    """Of which the language model is trained too, or the connector alone."""
    torch.manual_seed(0)
    task = llava.tiny_tasks([SOURCE[index] for index in range(12)])["average"]
    task.model.set_trained(Trained(language=kind == "language"))
    return task


@pytest.mark.parametrize("kind", ["connector", "language"])
def test_what_is_frozen_stays_and_gradients_go_through_it(kind: str) -> None:
    task = tiny(kind).train()
    names = {name for group in task.trainable()["main"] for name in group.parameters}
    assert {name.split(".")[1] for name in names} == (
        {"connector"} if kind == "connector" else {"connector", "language"}
    )
    assert not task.model.tower.backbone.training and task.model.connector.training
    batch = next(iter(EvaluationBatches(SOURCE, task.processor, 12, 1, 0.0)))
    task.losses(batch)["answers"].sum.backward()
    assert all(parameter.grad is None for parameter in task.model.tower.parameters())
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in task.model.connector.parameters())
    assert all((parameter.grad is None) == (kind == "connector") for parameter in task.model.language.parameters())


def test_the_loss_is_of_answers_alone_and_that_of_each_by_itself() -> None:
    task = tiny("language").eval()
    batch = next(iter(EvaluationBatches(SOURCE, task.processor, 12, 1, 0.0)))
    loss = task.losses(batch)["answers"]
    model = task.predictor()
    alone = model.text_likelihood(
        [SOURCE[index].image for index in range(12)], [SOURCE[index].turns[0].text for index in range(12)],
        [SOURCE[index].turns[1].text for index in range(12)],
    )  # fmt: skip
    assert float(loss.sum.detach()) == pytest.approx(-float(alone.log_N.sum()), rel=1e-4)
    assert loss.count == int(alone.counts_N.sum()) == int((batch.labels_BT != IGNORED).sum())
    changed = batch.tokens_BT.clone()
    changed[batch.places_BT] = 7  # what stands at pictures is not read
    again = task.losses(replace(batch, tokens_BT=changed))["answers"]
    assert float(again.sum.detach()) == pytest.approx(float(loss.sum.detach()))


def test_answers_are_free_or_the_likeliest_choice() -> None:
    model = tiny("language").predictor()
    images, asked = [SOURCE[0].image, SOURCE[1].image], ["what colour?", "what shape?"]
    free = model.answer(images, asked)
    assert free == model.generate_text(
        [[image, text] for image, text in zip(images, asked, strict=True)], TextSampling(16)
    )
    chosen = model.answer(images, asked, [["red", "blue"], ["circle", "square", "star"]])
    chances = model.text_likelihood([images[1]] * 3, ["what shape?"] * 3, ["circle", "square", "star"])
    assert chosen[0] in ("red", "blue") and chosen[1] == ["circle", "square", "star"][int(chances.log_N.argmax())]


def test_prompts_that_do_not_fit_are_refused_with_both_numbers(tmp_path: Path) -> None:
    model = tiny("connector").predictor()
    image = SOURCE[0].image
    with pytest.raises(DiptychError, match="2 pictures, and at most 1 fit"):
        model.generate_text([[image, image]])
    with pytest.raises(TextTooLong, match="and 256 fit"):
        model.generate_text([[image, "red " * 300]])
    with pytest.raises(DiptychError, match=f"2 places .{IMAGE}. for 1 pictures"):
        model.generate_text([[f"{IMAGE} what?", image]])
    task = tiny("connector")
    made = task.processor
    five = ConversationProcessor(ConversationConfig(made.config.image, 5), made.tokenizer, made.template)
    with pytest.raises(ConfigError, match="set slots to 4"):
        llava.LlavaTask(task.config, five, task.model.tower, task.model.language, Trained())
    with pytest.raises(ConfigError, match="nothing would be trained"):
        Trained(connector=False)


def test_a_saved_model_answers_the_same(tmp_path: Path) -> None:
    model = tiny("language").predictor()
    write_model(model, tmp_path)
    again = load(tmp_path)
    asked = [[SOURCE[3].image, "what colour?"]]
    assert again.generate_text(asked, TextSampling(8)) == model.generate_text(asked, TextSampling(8))
