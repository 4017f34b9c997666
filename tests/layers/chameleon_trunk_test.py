"""The causal trunk with QK-norm and both orders of norms: transformers' ChameleonModel, float64, all of it random.

Hidden states and the head are compared, not ChameleonForConditionalGeneration's logits, which it overwrites at every
code of a picture.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.objectives.autoregressive import next_token_labels, next_token_loss

DEPTH, HEADS, KEY_HEADS, VOCABULARY = 2, 4, 2, 60
PICTURE = {f"IMGIMG{chr(65 + code)}Z": 5 + code for code in range(8)}


def chameleon(swin: bool) -> Any:
    """Random, but for a tokenizer of pictures that is not asked."""
    tokenizer = {
        "embed_dim": 8, "num_embeddings": 8, "base_channels": 32, "num_res_blocks": 1, "resolution": 32,
        "in_channels": 3, "latent_channels": 16, "channel_multiplier": [1, 1],
    }  # fmt: skip
    config = transformers.ChameleonConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=DEPTH,
        num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, max_position_embeddings=64, swin_norm=swin,
        vq_config=tokenizer, vocabulary_map={"<image>": 4, **PICTURE, "<racm3:break>": 20, "<eoss>": 21},
    )  # fmt: skip
    model = transformers.ChameleonForConditionalGeneration(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(("norm.weight" in name) + 0.3 * noise)
    return model


def as_ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names of the trunk's weights, or of their gradients."""
    found = {"norm.weight": state["model.norm.weight"]}
    for layer in range(DEPTH):
        at, to = f"model.layers.{layer}", f"blocks.{layer}"
        attention, mlp = f"{at}.self_attn", f"{at}.mlp"
        keys, values = state[f"{attention}.k_proj.weight"], state[f"{attention}.v_proj.weight"]
        found |= {
            f"{to}.attention.query.weight": state[f"{attention}.q_proj.weight"],
            f"{to}.attention.key_value.weight": torch.cat([keys, values]),
            f"{to}.attention.out.weight": state[f"{attention}.o_proj.weight"],
            f"{to}.attention_norm.weight": state[f"{at}.input_layernorm.weight"],
            f"{to}.mlp_norm.weight": state[f"{at}.post_attention_layernorm.weight"],
            f"{to}.mlp.up.weight": torch.cat([state[f"{mlp}.gate_proj.weight"], state[f"{mlp}.up_proj.weight"]]),
            f"{to}.mlp.down.weight": state[f"{mlp}.down_proj.weight"],
        }
        for side, ours in (("q_norm", "query_norm"), ("k_norm", "key_norm")):
            for kind in ("weight", "bias"):
                found[f"{to}.attention.{ours}.{kind}"] = state[f"{attention}.{side}.{kind}"]
    return found


def ours(theirs: Any, swin: bool) -> CausalTransformer:
    config = CausalConfig(32, DEPTH, HEADS, 48, key_heads=KEY_HEADS, head_norm=True, norm_after=swin)
    trunk = CausalTransformer(config).double()
    trunk.load_state_dict(as_ours(theirs.state_dict()))
    return trunk


@pytest.mark.parity("chameleon", "transformers ChameleonModel", "states, loss, gradients", part=True)
@pytest.mark.parametrize("swin", [False, True], ids=["norms before", "norms after"])
def test_states_loss_and_gradients_are_those_of_transformers(swin: bool) -> None:
    theirs = chameleon(swin)
    trunk = ours(theirs, swin)
    tokens = torch.randint(22, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    lengths = torch.full((3,), 9)
    wanted = theirs.model(input_ids=tokens).last_hidden_state
    found = trunk(F.embedding(tokens, theirs.model.embed_tokens.weight))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)  # angles are float32 on both sides

    head = theirs.lm_head.weight
    logits = wanted @ head.T
    reference = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")
    z = logits[:, :-1].logsumexp(-1).square().sum()
    loss = next_token_loss(found, next_token_labels(tokens, lengths), lambda rows: rows @ head.T, with_z=True)
    torch.testing.assert_close(loss.cross_entropy, reference, rtol=1e-7, atol=1e-6)
    torch.testing.assert_close(loss.z, z, rtol=1e-7, atol=1e-6)
    names = [name for name, _ in theirs.named_parameters() if "layers" in name or name == "model.norm.weight"]
    gradients = dict(zip(names, torch.autograd.grad(
        reference + 1e-2 * z, [theirs.get_parameter(name) for name in names]
    ), strict=True))  # fmt: skip
    (loss.cross_entropy + 1e-2 * loss.z).backward()
    for name, gradient in as_ours(gradients).items():
        torch.testing.assert_close(trunk.get_parameter(name).grad, gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_normalised_heads_bound_what_attention_can_say() -> None:
    """|q k| <= sum of |gain| and |bias| squared, however large the states: by Cauchy and Schwarz over a head."""
    config = CausalConfig(32, 1, HEADS, 48, head_norm=True, rotary=0.0)
    attention = CausalTransformer(config).double().blocks[0].attention
    x = 1e4 * torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    query, (key, _) = attention.query_norm(_heads(attention.query(x))), attention._keys_and_values(x)
    product = query @ attention.key_norm(key).transpose(-1, -2)
    assert product.abs().max() <= 32 / HEADS + 1e-6  # gains are 1: two vectors of length sqrt(K)
    bare = _heads(attention.query(x)) @ key.transpose(-1, -2)
    assert bare.abs().max() > 1e6


def _heads(x_BTD: Tensor) -> Tensor:
    return x_BTD.view(*x_BTD.shape[:2], HEADS, -1).transpose(1, 2)
