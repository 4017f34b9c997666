"""Encoder-decoders read from folders, against `transformers` itself: states, loss, gradients, greedy texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_public import randomise
from torch import nn
from torch.nn import functional as F

from diptych.adapters.language import LanguageAdapterConfig
from diptych.core.errors import CheckpointError, ConfigError, TextTooLong
from diptych.core.losses import IGNORED
from diptych.core.sampling import TextSampling
from diptych.decoding.beam import beam_search
from diptych.decoding.write import write
from diptych.models.pretrained_backbone._adapted_language import adapted
from diptych.models.pretrained_backbone._encoder_decoder import EncoderDecoder, last_answers
from diptych.models.pretrained_backbone._language_folder import language_from_config, language_of, read_language

VOCABULARY, END = 60, 1
_T5: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "dropout_rate": 0.0,
}  # fmt: skip
KINDS: dict[str, Any] = {
    "t5": transformers.T5Config(**_T5),
    "t5, gated, a head of its own": transformers.T5Config(
        **_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ),
}


def saved(folder: Path, kind: str) -> Any:
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForSeq2SeqLM.from_config(KINDS[kind])
    if "own" in kind:
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    randomise(model)
    model.eval().save_pretrained(folder)
    return model.double()


def read(folder: Path) -> EncoderDecoder:
    found = read_language(folder).double()
    assert isinstance(found, EncoderDecoder)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_logits_loss_and_gradients_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    """Rows of different lengths, each a prompt of vectors and an answer; what stands at answers is not read."""
    theirs, ours = saved(tmp_path, kind), read(tmp_path)
    assert (ours.vocabulary, ours.width) == (VOCABULARY, 32)
    tokens = torch.randint(3, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    lengths, begins = torch.tensor([9, 5, 7]), torch.tensor([4, 3, 6])
    places = torch.arange(9)
    answers = (places >= begins[:, None]) & (places < lengths[:, None])
    labels = torch.where(answers, tokens, IGNORED)
    x = ours.embed(tokens).detach().requires_grad_()
    said = ours.said(x, lengths, labels)
    logits = ours.logits(said.states_BAD)
    assert said.labels_BA.shape == (3, 5)
    wanted = torch.zeros((), dtype=torch.float64)
    given = x.detach().clone().requires_grad_()
    for row, (begin, length) in enumerate(zip(begins.tolist(), lengths.tolist(), strict=True)):
        asked = tokens[row : row + 1, begin:length]
        out = theirs(inputs_embeds=given[row : row + 1, :begin], labels=asked)
        torch.testing.assert_close(logits[row, : length - begin], out.logits[0], rtol=1e-6, atol=1e-6)
        assert said.labels_BA[row].tolist() == asked[0].tolist() + [IGNORED] * (5 - length + begin)
        wanted = wanted + out.loss * (length - begin)
    loss = F.cross_entropy(logits.flatten(0, 1), said.labels_BA.flatten(), ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=1e-6)
    loss.backward()
    wanted.backward()
    scale = float(given.grad.abs().max())
    told = places < begins[:, None]
    torch.testing.assert_close(x.grad[told] / scale, given.grad[told] / scale, rtol=1e-5, atol=1e-6)
    assert float(x.grad[~told].abs().max()) == 0
    for name, parameter in ours.model.named_parameters():
        other = dict(theirs.named_parameters())[name].grad
        torch.testing.assert_close(parameter.grad, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()), msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_texts_and_beams_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    """Prompts of different lengths in one batch here, one by one there."""
    theirs, ours = saved(tmp_path, kind), read(tmp_path)
    prompts = [torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)) for n in (5, 2, 7)]
    with torch.inference_mode():
        rows = [ours.embed(prompt[None])[0] for prompt in prompts]
        found = write(ours.decoder(rows, 40), [8] * 3, TextSampling(8), [END])
        beams = beam_search(ours.decoder(rows, 40), [8] * 3, TextSampling(8, beams=3), [])
    for row, said, best in zip(rows, found, beams, strict=True):
        wanted = theirs.generate(inputs_embeds=row[None], max_new_tokens=8, do_sample=False, eos_token_id=END)
        assert [token for token in said if token != END] == [token for token in wanted[0, 1:].tolist() if token != END]
        ids = theirs.generate(inputs_embeds=row[None], max_new_tokens=8, num_beams=3, do_sample=False, eos_token_id=-1)
        assert best == ids[0, 1:].tolist()
    with pytest.raises(TextTooLong, match="7 tokens leaves no room"):
        ours.decoder(rows, 7)


def test_of_several_answers_the_last_is_said() -> None:
    """And a row without one is told as a whole."""
    labels = torch.tensor([[IGNORED, 5, IGNORED, 6, 7, IGNORED], [IGNORED, IGNORED, 8, IGNORED, IGNORED, IGNORED],
                           [IGNORED] * 6])  # fmt: skip
    begin, end = last_answers(labels, torch.tensor([6, 3, 4]))
    assert begin.tolist() == [3, 2, 4] and end.tolist() == [5, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_a_folder_and_a_configuration_build_it_again(tmp_path: Path, kind: str) -> None:
    """With a head of its own where it has one."""
    saved(tmp_path, kind)
    ours, weights = read(tmp_path), load_file(tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    part = language_of(config, weights, tmp_path).double()
    ours.write_config(tmp_path / "sizes")
    again = language_from_config(tmp_path / "sizes")
    again.load_state_dict(ours.float().state_dict())
    x, lengths = torch.randn(1, 6, 32), torch.tensor([6])
    labels = torch.tensor([[IGNORED, IGNORED, IGNORED, 4, 5, END]])
    wanted = ours.logits(ours.said(x, lengths, labels).states_BAD)
    for other in (part.float(), again):
        torch.testing.assert_close(other.logits(other.said(x, lengths, labels).states_BAD), wanted)
    assert ("lm_head.weight" in weights) == ("own" in kind)
    gone = "decoder.block.1.layer.1.EncDecAttention.k.weight"
    with pytest.raises(CheckpointError, match=gone):
        language_of(config, {name: one for name, one in weights.items() if name != gone}, tmp_path)
    (tmp_path / "bad").mkdir()
    save_file({name: one for name, one in weights.items() if name != gone}, tmp_path / "bad" / "model.safetensors")
    (tmp_path / "bad" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="lacks weights of its own model"):
        read_language(tmp_path / "bad")


def test_a_model_that_names_no_first_token_is_refused(tmp_path: Path) -> None:
    config = transformers.T5Config(**{name: value for name, value in _T5.items() if not name.startswith("decoder")})
    with pytest.raises(ConfigError, match="decoder_start_token_id"):
        EncoderDecoder(transformers.T5ForConditionalGeneration(config).eval())


def test_an_adapter_goes_into_both_halves(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    saved(tmp_path, "t5")
    ours = read(tmp_path).float()
    _, names = adapted(ours, LanguageAdapterConfig("lora", rank=2))
    own = {name for name, _ in ours.named_parameters()}
    assert names <= own and {name.split(".")[1] for name in names} == {"encoder", "decoder"}
