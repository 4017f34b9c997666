"""BLIP-2's second stage against transformers' Blip2ForConditionalGeneration, all of it random; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_public import randomise, write_preprocessor
from torch.nn import functional as F

from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError, DiptychError, TextTooLong
from diptych.core.sample import Sample, Turn
from diptych.core.sampling import TextSampling
from diptych.core.visual import Image
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.models._weight_tables import read
from diptych.models.pretrained_backbone import blip2, blip2_lm
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._qformer_names import bridge_names

SIDE, QUERIES, VOCABULARY, PICTURE = 16, 3, 330, 329
VISION = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": SIDE, "patch_size": 8, "attention_dropout": 0.0}  # fmt: skip
QFORMER = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
           "intermediate_size": 48, "encoder_hidden_size": 24, "max_position_embeddings": 24,
           "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
LANGUAGES: dict[str, dict[str, Any]] = {
    "opt": {"model_type": "opt", "hidden_size": 40, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "vocab_size": VOCABULARY, "word_embed_proj_dim": 40, "max_position_embeddings": 64, "dropout": 0.0,
            "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
    "t5": {"model_type": "t5", "d_model": 40, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4,
           "vocab_size": VOCABULARY, "dropout_rate": 0.0,
           "feed_forward_proj": "gated-gelu", "eos_token_id": 1, "pad_token_id": 2,
           "decoder_start_token_id": 2, "tie_word_embeddings": False},
}  # fmt: skip
SOURCE = Scenes("train", 12, SceneConfig(32, 1, words=0.0))
ASKED = ("what is this?", "a red", "")
ANSWERED = ("a red circle", "circle", "two")


def folder_in(path: Path, language: str = "opt") -> Any:
    """Writes a folder; the model in float64."""
    config = transformers.Blip2Config(
        vision_config=dict(VISION), qformer_config=dict(QFORMER), text_config=dict(LANGUAGES[language]),
        num_query_tokens=QUERIES, image_token_index=PICTURE,
    )  # fmt: skip
    model: Any = transformers.Blip2ForConditionalGeneration(config)
    randomise(model)
    model.eval().save_pretrained(path)
    Tokenizer.fit(["what is this? a red circle two"], 300).write(path / "tokenizer.json")
    write_preprocessor(path, {"height": SIDE, "width": SIDE})
    return model.double()


def picture(seed: int) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image(pixels_HWC=pixels, name=f"noise {seed}")


class Asked:
    """Pictures of noise, each with a question and an answer."""

    name = "asked"

    def __len__(self) -> int:
        return len(ASKED)

    def __getitem__(self, index: int) -> Sample:
        turns = (Turn("user", ASKED[index]), Turn("assistant", ANSWERED[index]))
        return Sample(f"{index}", visuals=(picture(index),), turns=turns)

    def keys(self) -> list[str]:
        return ["0", "1", "2"]

    def fingerprint(self) -> str:
        return "asked"


def batch_of(processor: Any) -> Any:
    return next(iter(EvaluationBatches(Asked(), processor, 3, 1, 0.0)))


def with_pictures(tokens: list[int], places: list[bool]) -> list[int]:
    return [PICTURE if shown else token for token, shown in zip(tokens, places, strict=True)]


def trained_on(folder: Path) -> Any:
    """The task of a folder, in float64."""
    model = load(folder)
    assert isinstance(model, blip2_lm.Blip2LmPredictor)
    task = blip2_lm.Blip2LmTask(model.config, model.processor, model.module.tower, model.module.language, Trained())
    task.model.connector.load_state_dict(model.module.connector.state_dict())
    return task.double()


@pytest.mark.parity("blip2_lm", "transformers Blip2ForConditionalGeneration", "logits, loss, every trained gradient")
@pytest.mark.parametrize("language", LANGUAGES)
def test_logits_loss_and_gradients_are_those_of_transformers(tmp_path: Path, language: str) -> None:
    theirs, task = folder_in(tmp_path, language), trained_on(tmp_path)
    batch = batch_of(task.processor)
    pixels = task.model.tower.prepared(batch.pixels_NCHW)
    tolerance = 1e-5 if language == "t5" else 1e-9  # T5's norm is of float32 on both sides
    wanted, tokens, seen = torch.zeros((), dtype=torch.float64), 0, task.model(batch)
    for row in range(3):
        length = int(batch.lengths_B[row])
        ids = with_pictures(batch.tokens_BT[row, :length].tolist(), batch.places_BT[row, :length].tolist())
        labels = batch.labels_BT[row, :length]
        count = int((labels != -100).sum())
        if language == "t5":  # the encoder reads what is told
            ids, labels = ids[:-count], labels[-count:]
        out = theirs(pixel_values=pixels[row : row + 1], input_ids=torch.tensor([ids]), labels=labels[None])
        logits = task.model.logits(seen.states_BAD[row, : len(labels)])
        torch.testing.assert_close(logits, out.logits[0], rtol=tolerance, atol=tolerance)
        said, taught = (out.logits[0], labels) if language == "t5" else (out.logits[0, :-1], labels[1:])
        loss = F.cross_entropy(said, taught, reduction="sum")
        torch.testing.assert_close(loss / count, out.loss.double(), rtol=1e-5, atol=1e-6)  # theirs is of float32
        wanted, tokens = wanted + loss, tokens + count
    loss = task.losses(batch)["answers"]
    torch.testing.assert_close(loss.sum, wanted, rtol=tolerance, atol=tolerance)
    assert loss.count == tokens
    loss.sum.backward()
    wanted.backward()
    same_gradients(task.model.connector, theirs, task.config, tolerance)
    assert all(one.grad is None for part in (task.model.tower, task.model.language) for one in part.parameters())


def same_gradients(bridge: Any, theirs: Any, config: Any, tolerance: float) -> None:
    """Of every weight of the bridge."""
    parts = ("qformer.", "query_tokens", "language_projection.")
    found = {name: one.grad for name, one in theirs.named_parameters() if name.startswith(parts)}
    wanted = read(bridge_names(config.qformer), found, Path("theirs"))
    ours = dict(bridge.named_parameters())
    assert ours.keys() == wanted.keys()
    for name, one in ours.items():
        scale = float(wanted[name].abs().max())
        assert scale > 0, name
        torch.testing.assert_close(one.grad / scale, wanted[name] / scale, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parity("blip2_lm", "transformers Blip2ForConditionalGeneration", "greedy texts")
@pytest.mark.parametrize("language", LANGUAGES)
def test_greedy_texts_are_those_of_transformers(tmp_path: Path, language: str) -> None:
    """Prompts of different lengths, in one batch here and one by one there."""
    theirs, ours = folder_in(tmp_path, language), load(tmp_path)
    ours.module.double()
    words = ours.processor.tokenizer
    prompts = [[picture(0), "what is this?"], [picture(1)], [picture(2), "a red"]]
    said = ours.generate_text(prompts, TextSampling(10))
    for prompt, text in zip(prompts, said, strict=True):
        one = ours._opened(prompt)
        pixels = ours.module.tower.prepared(ours.pixels(prompt[:1]))
        found = theirs.generate(
            pixel_values=pixels, input_ids=torch.tensor([with_pictures(one.tokens, one.places)]), max_new_tokens=10,
            do_sample=False,
        )[0].tolist()  # fmt: skip
        found = found[found.index(PICTURE) + len(one.tokens) :] if PICTURE in found else found
        assert words.decode([token for token in found if token != words.end_id]).strip() == text
    assert len(set(said)) > 1


def test_prompts_are_written_as_the_released_model_was_taught(tmp_path: Path) -> None:
    """Queries, the start token, what is asked, and the answer behind a space; what ends it is the generation's."""
    folder_in(tmp_path)
    words = load(tmp_path).processor.tokenizer
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [words.end_id, 5]}))
    ours = load(tmp_path)
    read = ours.processor.read([Turn("user", "a red"), Turn("assistant", "circle")], 1, "x")
    told = [token for token, label in zip(read.tokens, read.labels, strict=True) if label == -100]
    assert read.places == [True] * QUERIES + [False] * (len(read.places) - QUERIES)
    assert told[QUERIES] == words.start_id and words.decode(told[QUERIES:]) == "a red"
    assert [label for label in read.labels if label != -100][-1] == words.end_id
    half = words.backend.token_to_id("Ã")  # the first byte of a letter is no text by itself
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": half}))
    with pytest.raises(ConfigError, match="does not read"):
        load(tmp_path)


@pytest.mark.parametrize(
    "gone",
    ["query_tokens", "qformer.encoder.layer.2.crossattention.attention.key.bias", "language_projection.weight",
     "vision_model.post_layernorm.bias", "language_model.model.decoder.final_layer_norm.bias"],
)  # fmt: skip
def test_a_missing_weight_is_named(tmp_path: Path, gone: str) -> None:
    folder_in(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name: one for name, one in weights.items() if name != gone}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=gone.removeprefix("vision_model.").removeprefix("language_model.")):
        load(tmp_path)


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder_in(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {"extra.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no model of BLIP-2's kind has: extra\.weight"):
        load(tmp_path)
    narrow = {"language_projection.weight": torch.zeros(24, 32), "language_projection.bias": torch.zeros(24)}
    save_file(weights | narrow, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"map\.weight is not of the shape"):
        load(tmp_path)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(DiptychError, match=r"lacks preprocessor_config\.json"):
        load(tmp_path)


def tiny() -> blip2_lm.Blip2LmTask:
    torch.manual_seed(0)
    return blip2_lm.tiny_tasks([SOURCE[index] for index in range(12)])["causal"]


def test_the_first_stage_is_taken_over() -> None:
    """Norm and Q-Former; a first stage of other sizes is refused with both."""
    samples = [SOURCE[index] for index in range(12)]
    first, second = blip2.tiny_tasks(samples)["first_stage"], tiny()
    second.model.connector.take_first_stage(first.state_dict())
    image = torch.randn(2, 5, 32)
    wanted = first.model.qformer.see(first.model.norm(image))
    torch.testing.assert_close(second.model.connector(image), second.model.connector.map(wanted))
    state = first.state_dict()
    with pytest.raises(CheckpointError, match=r"queries_QD is \(2, 64\), here it is \(4, 64\)"):
        second.model.connector.take_first_stage(state | {"model.qformer.queries_QD": torch.zeros(2, 64)})
    with pytest.raises(CheckpointError, match=r"no weight norm\.weight"):
        second.model.connector.take_first_stage({})


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    task = tiny()
    sizes = blip2_lm.QFormerConfig(4, 64, 2, 2, 128, 24, 2, vocabulary=0)
    parts = (task.processor, task.model.tower, task.model.language, Trained())
    with pytest.raises(ConfigError, match=r"are 32 wide, and qformer\.image_width is 24"):
        blip2_lm.Blip2LmTask(blip2_lm.Config(sizes, layer=-1, special=1), *parts)
    with pytest.raises(ConfigError, match="take instructblip"):
        blip2_lm.Config(blip2_lm.QFormerConfig())
    model = task.predictor()
    with pytest.raises(TextTooLong, match="and 256 fit"):
        model.text_likelihood([SOURCE[0].image], ["what?"], ["red " * 300])
