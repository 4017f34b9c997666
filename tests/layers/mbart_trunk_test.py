"""The trunk with a memory, as Parti has it, against mBART's decoder: every parameter random, float64."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer

WIDTH, HEADS, HIDDEN = 48, 3, 80


def theirs() -> transformers.MBartForConditionalGeneration:
    config = transformers.MBartConfig(
        vocab_size=40, d_model=WIDTH, encoder_layers=1, decoder_layers=2, decoder_attention_heads=HEADS,
        encoder_attention_heads=HEADS, decoder_ffn_dim=HIDDEN, encoder_ffn_dim=HIDDEN, max_position_embeddings=32,
        dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, activation_function="gelu",
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.MBartForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            one = "norm" in name and name.endswith("weight")
            parameter.copy_(one + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model.double()


def as_ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names of the weights, or gradients, of its decoder's blocks."""
    found = {}
    for side in ("weight", "bias"):
        found[f"norm.{side}"] = state[f"layer_norm.{side}"]
        for layer in range(2):
            at, to = f"layers.{layer}.", f"blocks.{layer}."
            for part, whose in (("self_attn", "attention"), ("encoder_attn", "memory")):
                found[f"{to}{whose}.query.{side}"] = state[f"{at}{part}.q_proj.{side}"]
                found[f"{to}{whose}.key_value.{side}"] = torch.cat(
                    [state[f"{at}{part}.k_proj.{side}"], state[f"{at}{part}.v_proj.{side}"]]
                )
                found[f"{to}{whose}.out.{side}"] = state[f"{at}{part}.out_proj.{side}"]
                found[f"{to}{whose}_norm.{side}"] = state[f"{at}{part}_layer_norm.{side}"]
            found[f"{to}mlp_norm.{side}"] = state[f"{at}final_layer_norm.{side}"]
            found[f"{to}mlp.up.{side}"] = state[f"{at}fc1.{side}"]
            found[f"{to}mlp.down.{side}"] = state[f"{at}fc2.{side}"]
    return found


@pytest.mark.parity(
    "parti", "transformers MBartForConditionalGeneration", "the decoder's states, loss, gradients", part=True
)
def test_the_decoder_has_mbarts_states_loss_and_gradients() -> None:
    whole = theirs()
    decoder = whole.get_decoder()
    config = CausalConfig(WIDTH, 2, HEADS, HIDDEN, norm="layer", rotary=0.0, gated=False, bias=True, memory_width=WIDTH)
    ours = CausalTransformer(config).double()
    ours.load_state_dict(as_ours(decoder.state_dict()))
    memory = torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    tokens = torch.randint(4, 40, (3, 9), generator=torch.Generator().manual_seed(2))
    out = decoder(
        input_ids=tokens, encoder_hidden_states=memory, encoder_attention_mask=mask.long(), output_hidden_states=True
    )
    states = ours(out.hidden_states[0].detach(), memory_BMC=memory, memory_mask_B1M=mask[:, None])
    torch.testing.assert_close(states, out.last_hidden_state, rtol=1e-8, atol=1e-8)
    labels = torch.randint(0, 40, (3, 9), generator=torch.Generator().manual_seed(3))
    for found in (states, out.last_hidden_state):
        F.cross_entropy(whole.lm_head(found).flatten(0, 1), labels.flatten()).backward()
    gradients = as_ours({name: p.grad for name, p in decoder.named_parameters() if p.grad is not None})
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-8, atol=1e-10, msg=name)
