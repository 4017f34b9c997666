"""Tokens one after another."""

from __future__ import annotations

import pytest
import torch
import transformers
from bigram import Bigram, random_logits
from llama_weights import END, PAD, llama

from diptych.core.errors import ConfigError, TextTooLong
from diptych.core.sampling import TextSampling, seeds_for
from diptych.decoding.beam import beam_search
from diptych.decoding.trunk_decoder import TrunkDecoder
from diptych.decoding.write import kept, write
from diptych.layers.causal_transformer import CausalTransformer


def follow(seed: int = 0) -> Bigram:
    return Bigram(random_logits(6, seed), [0, 1, 2])


def test_greedy_takes_the_likeliest_and_ended_rows_cost_nothing() -> None:
    logits = torch.full((4, 4), -1.0)
    logits[0, 3] = logits[1, 0] = logits[2, 1] = 1.0  # 2 -> 1 -> 0 -> 3, which ends
    decoder = Bigram(logits, [0, 1, 2])
    assert write(decoder, [1000] * 3, TextSampling(max_tokens=9), ends=[3]) == [[], [0], [1, 0]]
    assert decoder.rows_seen == [3, 2, 1]


def test_a_row_ends_where_its_own_room_does() -> None:
    loop = torch.eye(3)
    assert write(Bigram(loop, [0, 1]), [2, 3], TextSampling(max_tokens=9), ends=[2]) == [[0] * 2, [1] * 3]
    beams = TextSampling(max_tokens=9, beams=2)
    assert beam_search(Bigram(5 * loop, [0, 1]), [2, 3], beams, ends=[2]) == [[0] * 2, [1] * 3]


def test_no_more_than_the_most_tokens_and_nothing_of_no_rows() -> None:
    loop = Bigram(torch.eye(3), [0, 1])
    assert write(loop, [1000] * 2, TextSampling(max_tokens=4), ends=[2]) == [[0] * 4, [1] * 4]
    assert write(Bigram(torch.eye(3), []), [], TextSampling(), ends=[2]) == []


def test_a_drawn_row_depends_on_its_seed_alone() -> None:
    sampling = TextSampling(max_tokens=20, temperature=1.0)
    together = write(follow(), [1000] * 3, sampling, ends=[5], seeds=[7, 8, 9])
    for row, seed in enumerate([7, 8, 9]):
        assert write(Bigram(random_logits(6), [row]), [1000], sampling, ends=[5], seeds=[seed]) == [together[row]]
    assert together != write(follow(), [1000] * 3, sampling, ends=[5], seeds=[1, 2, 3])


def test_draws_follow_the_shares() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(3, 3)
    sampling = TextSampling(max_tokens=4000, temperature=0.5)
    (drawn,) = write(Bigram(logits, [0]), [1000], sampling, ends=[], seeds=[3])
    found = torch.bincount(torch.tensor(drawn), minlength=3) / len(drawn)
    torch.testing.assert_close(found, (torch.tensor([0.0, 1.0, 2.0]) / 0.5).softmax(0), atol=0.025, rtol=0)


def test_the_nucleus_is_the_smallest_set_of_that_share() -> None:
    shares = torch.tensor([[0.1, 0.45, 0.05, 0.4]])
    for top_p, wanted in ((0.4, [1]), (0.45, [1]), (0.46, [1, 3]), (0.86, [0, 1, 3]), (0.99, [0, 1, 2, 3])):
        left = kept(shares.log(), 0, top_p).isfinite()[0].nonzero()[:, 0].tolist()
        assert left == wanted, top_p
    assert kept(shares.log(), 2, 1.0).isfinite()[0].tolist() == [False, True, False, True]


PROMPTS = [[0, 5, 6, 7], [0, 9], [0, 3, 4, 5, 6, 7, 8]]


def decoder_of(model: transformers.LlamaForCausalLM, trunk: CausalTransformer, room: int = 64) -> TrunkDecoder:
    def logits(states_ND: torch.Tensor) -> torch.Tensor:
        return states_ND @ model.lm_head.weight.T

    embed = model.model.embed_tokens
    return TrunkDecoder(trunk, lambda tokens, places: embed(tokens), logits, PROMPTS, room, torch.device("cpu"))


@pytest.mark.parametrize("beams", [1, 3])
def test_a_ragged_batch_of_prompts_goes_on_as_each_does_in_transformers(beams: int) -> None:
    model, trunk = llama()
    sampling = TextSampling(max_tokens=20, beams=beams)
    with torch.no_grad():
        if beams == 1:
            found = write(decoder_of(model, trunk), [1000] * 3, sampling, ends=[END])
        else:
            found = beam_search(decoder_of(model, trunk), [1000] * 3, sampling, ends=[END])
    for prompt, ours in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, num_beams=beams
        )
        assert ours == [token for token in theirs[0, len(prompt) :].tolist() if token not in (END, PAD)]


def test_a_prompt_without_room_and_settings_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(TextTooLong, match="a prompt of 7 tokens leaves no room to go on in 7"):
        decoder_of(*llama(), room=7)
    with pytest.raises(ConfigError, match="3 beams are searched, not drawn"):
        TextSampling(beams=3, temperature=1.0)
    with pytest.raises(ConfigError, match=r"top_p 0\.0 is a share"):
        TextSampling(top_p=0.0)
    with pytest.raises(ConfigError, match="2 seeds for 3 texts: give one seed, or one for each"):
        seeds_for(3, [1, 2], "texts")
    assert len(set(seeds_for(3, 5, "texts"))) == 3
