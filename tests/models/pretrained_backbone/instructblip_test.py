"""InstructBLIP against transformers' InstructBlipForConditionalGeneration, all of it random; who sees the question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_public import randomise, write_preprocessor
from torch.nn import functional as F

from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError, DataError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.sampling import TextSampling
from diptych.core.visual import Image
from diptych.data.batches.instructions import InstructedProcessor
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.words.tokenizer import Tokenizer
from diptych.models._weight_tables import read
from diptych.models.pretrained_backbone import instructblip
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._qformer_names import bridge_names, without_unread

SIDE, QUERIES, VOCABULARY, PICTURE = 16, 3, 330, 329
ASKED = ("what is this?", "a red", "red red a")
ANSWERED = ("a red circle", "circle", "two")


def folder_in(path: Path) -> Any:
    """Writes a folder; the model in float64."""
    config = transformers.InstructBlipConfig(
        vision_config={"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": SIDE, "patch_size": 8},
        qformer_config={"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
                        "intermediate_size": 48, "encoder_hidden_size": 24, "max_position_embeddings": 24,
                        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 2},
        text_config={"model_type": "opt", "hidden_size": 40, "ffn_dim": 48, "num_hidden_layers": 2, "dropout": 0.0,
                     "num_attention_heads": 4, "vocab_size": VOCABULARY, "word_embed_proj_dim": 40,
                     "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
        num_query_tokens=QUERIES, image_token_index=PICTURE,
    )  # fmt: skip
    model: Any = transformers.InstructBlipForConditionalGeneration(config)
    randomise(model)
    model.eval().save_pretrained(path)
    (path / "qformer_tokenizer").mkdir()
    Tokenizer.fit(["what is this? a red circle two"], 300).write(path / "tokenizer.json")
    Tokenizer.fit(["red is what? a"], 270).write(path / "qformer_tokenizer" / "tokenizer.json")
    write_preprocessor(path, {"height": SIDE, "width": SIDE})
    return model.double()


def picture(seed: int) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image(pixels_HWC=pixels, name=f"noise {seed}")


class Questions:
    """Pictures of noise, each with a question and an answer; the second without a picture."""

    name = "questions"

    def __len__(self) -> int:
        return len(ASKED)

    def __getitem__(self, index: int) -> Sample:
        turns = (Turn("user", ASKED[index]), Turn("assistant", ANSWERED[index]))
        return Sample(f"{index}", visuals=() if index == 1 else (picture(index),), turns=turns)

    def keys(self) -> list[str]:
        return ["0", "1", "2"]

    def fingerprint(self) -> str:
        return "questions"


def task_of(folder: Path) -> Any:
    model = load(folder)
    assert isinstance(model, instructblip.InstructBlipPredictor)
    parts = (model.module.tower, model.module.language)
    task = instructblip.InstructBlipTask(model.config, model.processor, *parts, Trained())
    task.model.connector.load_state_dict(model.module.connector.state_dict())
    return task.double()


@pytest.mark.parity(
    "instructblip", "transformers InstructBlipForConditionalGeneration", "logits, loss, every trained gradient"
)
def test_logits_loss_and_gradients_are_those_of_transformers(tmp_path: Path) -> None:
    """Questions of different lengths, padded here and one by one there; a conversation without a picture between."""
    theirs, task = folder_in(tmp_path), task_of(tmp_path)
    batch = next(iter(EvaluationBatches(Questions(), task.processor, 3, 1, 0.0)))
    pixels, seen = task.model.tower.prepared(batch.pixels_NCHW), task.model(batch)
    wanted = torch.zeros((), dtype=torch.float64)
    for row in range(3):
        length = int(batch.lengths_B[row])
        ids = torch.where(batch.places_BT[row, :length], PICTURE, batch.tokens_BT[row, :length])
        if row == 1:
            logits = theirs.language_model(input_ids=ids[None]).logits[0]
        else:
            asked = task.processor.reader.encode([ASKED[row]], 24)
            at = row // 2
            logits = theirs(
                pixel_values=pixels[at : at + 1], input_ids=ids[None], qformer_input_ids=torch.tensor(asked)
            ).logits[0]
        torch.testing.assert_close(
            task.model.logits(seen.states_BAD[row, :length]), logits, rtol=1e-9, atol=1e-10, msg=f"{row}"
        )
        wanted = wanted + F.cross_entropy(logits[:-1], batch.labels_BT[row, 1:length], reduction="sum")
    loss = task.losses(batch)["answers"]
    torch.testing.assert_close(loss.sum, wanted, rtol=1e-9, atol=1e-10)
    loss.sum.backward()
    wanted.backward()
    parts = ("qformer.", "query_tokens", "language_projection.")
    public = {name: one.grad for name, one in theirs.named_parameters() if name.startswith(parts)}
    sizes, ours = task.config.qformer, dict(task.model.connector.named_parameters())
    gradients = read(bridge_names(sizes), without_unread(sizes, public), Path("theirs"))
    assert gradients.keys() == ours.keys()
    for name, one in ours.items():
        scale = float(gradients[name].abs().max())
        assert scale > 0, name
        torch.testing.assert_close(one.grad / scale, gradients[name] / scale, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parity("instructblip", "transformers InstructBlipForConditionalGeneration", "greedy texts")
def test_greedy_texts_are_those_of_transformers(tmp_path: Path) -> None:
    theirs, ours = folder_in(tmp_path), load(tmp_path)
    ours.module.double()
    words = ours.processor.tokenizer
    prompts = [[picture(0), "what is this?"], [picture(1)], [picture(2), "a red"]]
    said = ours.generate_text(prompts, TextSampling(10))
    for prompt, text in zip(prompts, said, strict=True):
        one = ours._opened(prompt)
        ids = torch.where(torch.tensor(one.places), PICTURE, torch.tensor(one.tokens))
        asked = torch.tensor(ours.processor.reader.encode([one.asked], 24))
        found = theirs.generate(
            pixel_values=ours.module.tower.prepared(ours.pixels(prompt[:1])), input_ids=ids[None],
            qformer_input_ids=asked, max_new_tokens=10, do_sample=False,
        )[0].tolist()  # fmt: skip
        found = found[len(ids) :] if PICTURE in found else found
        assert words.decode([token for token in found if token != words.end_id]).strip() == text


def test_what_is_taken_from_a_picture_depends_on_the_question_alone(tmp_path: Path) -> None:
    """Not on the answer, the rest of the batch or its padding; a saved model sees the same."""
    folder_in(tmp_path / "public")
    ours = load(tmp_path / "public")
    read = [ours._opened([picture(0), text]) for text in ("a red", "what is this? what is this?")]
    both = ours.seen(read, [picture(0)] * 2)
    alone = ours.seen(read[:1], [picture(0)])
    torch.testing.assert_close(both[:1], alone)
    assert not torch.allclose(both[0], both[1], rtol=1e-3)
    answered = ours.processor.read([Turn("user", "a red"), Turn("assistant", "two two")], 1, "x")
    torch.testing.assert_close(ours.seen([answered], [picture(0)]), alone)
    (tmp_path / "ours").mkdir()
    write_model(ours, tmp_path / "ours")
    again = load(tmp_path / "ours")
    torch.testing.assert_close(again.seen(read, [picture(0)] * 2), both)


def test_what_does_not_fit_or_is_missing_is_refused(tmp_path: Path) -> None:
    folder_in(tmp_path)
    ours = load(tmp_path)
    with pytest.raises(TextTooLong, match="more than the 24 tokens that fit"):
        ours.answer([picture(0)], ["red " * 30])
    long = Sample("long", visuals=(picture(0),), turns=(Turn("user", "red " * 30), Turn("assistant", "two")))
    processor = ours.processor
    rows = {"pixels": np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)}
    with pytest.raises(BadSample, match="question too long"):
        processor.prepare(long, None, rows)
    with pytest.raises(ConfigError, match="take blip2_lm"):
        instructblip.Config(replace(ours.config.qformer, vocabulary=0))
    few = instructblip.Config(replace(ours.config.qformer, vocabulary=9), layer=-1, special=0)
    with pytest.raises(ConfigError, match=r"qformer\.vocabulary is 9"):
        instructblip.InstructBlipPredictor.build(few, processor, ours.module.tower, ours.module.language)
    assert isinstance(processor, InstructedProcessor)
    weights = load_file(tmp_path / "model.safetensors")
    gone = "qformer.embeddings.word_embeddings.weight"
    save_file({name: one for name, one in weights.items() if name != gone}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=gone):
        load(tmp_path)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "qformer_tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="qformer_tokenizer"):
        load(tmp_path)
