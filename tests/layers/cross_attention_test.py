"""Blocks with cross-attention against torch's decoder layer, and what they must not see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.layers.cross_attention import CrossAttention, CrossBlock, CrossTransformer
from diptych.layers.transformer import Activation

WIDTH, OTHER, HEADS = 12, 20, 3
LENGTHS, CONTEXT_LENGTHS = torch.tensor([5, 2, 4]), torch.tensor([7, 1, 3])


def randomised(module: nn.Module, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double().eval()


def inside(lengths_B: Tensor, longest: int) -> Tensor:
    return (torch.arange(longest) < lengths_B[:, None])[:, None]


def test_attention_is_that_of_torch_with_keys_of_another_width() -> None:
    oracle = randomised(nn.MultiheadAttention(WIDTH, HEADS, kdim=OTHER, vdim=OTHER, batch_first=True))
    ours = CrossAttention(WIDTH, OTHER, HEADS).double()
    q, k, v = oracle.in_proj_bias.chunk(3)
    ours.load_state_dict(
        {
            "query.weight": oracle.q_proj_weight,
            "query.bias": q,
            "key_value.weight": torch.cat([oracle.k_proj_weight, oracle.v_proj_weight]),
            "key_value.bias": torch.cat([k, v]),
            "out.weight": oracle.out_proj.weight,
            "out.bias": oracle.out_proj.bias,
        }
    )
    x_BTD, context_BSC = torch.randn(3, 5, WIDTH).double(), torch.randn(3, 7, OTHER).double()
    mask = inside(CONTEXT_LENGTHS, 7)
    wanted, _ = oracle(x_BTD, context_BSC, context_BSC, key_padding_mask=~mask[:, 0])
    torch.testing.assert_close(ours(x_BTD, context_BSC, mask), wanted, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(ours(x_BTD, context_BSC), wanted)


def decoder_layer() -> tuple[nn.TransformerDecoderLayer, CrossBlock]:
    oracle = nn.TransformerDecoderLayer(
        WIDTH, HEADS, 30, dropout=0.0, activation="gelu", layer_norm_eps=1e-3, batch_first=True, norm_first=True
    )
    randomised(oracle)
    ours = CrossBlock(WIDTH, WIDTH, HEADS, 30, Activation.GELU, 1e-3).double()
    theirs = oracle.state_dict()
    q, k, v = theirs["multihead_attn.in_proj_weight"].chunk(3)
    q_bias, k_bias, v_bias = theirs["multihead_attn.in_proj_bias"].chunk(3)
    state = {
        "attention.qkv.weight": theirs["self_attn.in_proj_weight"],
        "attention.qkv.bias": theirs["self_attn.in_proj_bias"],
        "cross.query.weight": q,
        "cross.query.bias": q_bias,
        "cross.key_value.weight": torch.cat([k, v]),
        "cross.key_value.bias": torch.cat([k_bias, v_bias]),
    }
    for mine, name in (
        *(("attention.out", "self_attn.out_proj"), ("cross.out", "multihead_attn.out_proj")),
        *(("mlp.up", "linear1"), ("mlp.down", "linear2")),
        *((f"norm{i}", f"norm{i}") for i in (1, 2, 3)),
    ):
        state |= {f"{mine}.{kind}": theirs[f"{name}.{kind}"] for kind in ("weight", "bias")}
    ours.load_state_dict(state)
    return oracle, ours


def test_a_block_and_its_gradients_are_those_of_torchs_decoder_layer() -> None:
    oracle, ours = decoder_layer()
    x_BTD, context_BSD = torch.randn(3, 5, WIDTH).double(), torch.randn(3, 7, WIDTH).double()
    own, other = inside(LENGTHS, 5), inside(CONTEXT_LENGTHS, 7)
    found, wanted = [], []
    for results, run in (
        (found, lambda x, y: ours(x, y, own, other)),
        (wanted, lambda x, y: oracle(x, y, tgt_key_padding_mask=~own[:, 0], memory_key_padding_mask=~other[:, 0])),
    ):
        x, y = x_BTD.clone().requires_grad_(), context_BSD.clone().requires_grad_()
        out = run(x, y)
        results += [out, *torch.autograd.grad((out.sin() * inside(LENGTHS, 5).transpose(1, 2)).sum(), [x, y])]
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.fixture
def stack() -> CrossTransformer:
    made = randomised(CrossTransformer(WIDTH, OTHER, 2, HEADS, 30))
    assert isinstance(made, CrossTransformer)
    return made


def test_the_first_token_alone_is_the_first_of_all(stack: CrossTransformer) -> None:
    x_BTD, context_BSC = torch.randn(3, 5, WIDTH).double(), torch.randn(3, 7, OTHER).double()
    masks = (inside(LENGTHS, 5), inside(CONTEXT_LENGTHS, 7))
    every_BTD, first_BD = stack(x_BTD, context_BSC, *masks), stack(x_BTD, context_BSC, *masks, first=True)
    torch.testing.assert_close(first_BD, every_BTD[:, 0], rtol=1e-10, atol=1e-10)


def test_padding_of_either_side_is_invisible(stack: CrossTransformer) -> None:
    x_BTD, context_BSC = torch.randn(3, 5, WIDTH).double(), torch.randn(3, 7, OTHER).double()
    own, other = inside(LENGTHS, 5), inside(CONTEXT_LENGTHS, 7)
    before = stack(x_BTD, context_BSC, own, other)
    x_BTD[1, 2:], context_BSC[0, 7:], context_BSC[1, 1:] = 9.0, 9.0, -9.0
    longer = nn.functional.pad(context_BSC, (0, 0, 0, 4), value=3.0)
    after = stack(x_BTD, longer, own, inside(CONTEXT_LENGTHS, 11))
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(after[row, :length], before[row, :length], rtol=1e-10, atol=1e-10)


def test_every_token_depends_on_its_own_side_and_on_the_other(stack: CrossTransformer) -> None:
    x_BTD, context_BSC = torch.randn(1, 5, WIDTH).double(), torch.randn(1, 7, OTHER).double()
    before = stack(x_BTD, context_BSC)
    changed_x, changed_context = x_BTD.clone(), context_BSC.clone()
    changed_x[0, 4] = torch.randn(WIDTH)  # a shift of all values alike would be undone by the norm
    changed_context[0, 6] = torch.randn(OTHER)
    for after in (stack(changed_x, context_BSC), stack(x_BTD, changed_context)):
        assert ((after - before).abs().amax(-1) > 1e-6).all()


def test_no_rows_give_no_rows(stack: CrossTransformer) -> None:
    none = stack(torch.zeros(0, 5, WIDTH).double(), torch.zeros(0, 7, OTHER).double(), None, torch.ones(0, 1, 7).bool())
    assert none.shape == (0, 5, WIDTH)


def test_recomputing_changes_no_gradient(stack: CrossTransformer) -> None:
    x_BTD, context_BSC = torch.randn(2, 5, WIDTH).double(), torch.randn(2, 7, OTHER).double()
    gradients = []
    for checkpointing in (False, True):
        stack.zero_grad()
        stack.checkpointing = checkpointing
        stack(x_BTD, context_BSC, first=True).sin().sum().backward()
        gradients.append([p.grad.clone() for p in stack.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-12, atol=1e-12)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="width 12 is not divisible by 5 heads"):
        CrossAttention(12, 12, 5)
    with pytest.raises(ConfigError, match="depth of 1 or more"):
        CrossTransformer(12, 12, 0, 3, 30)
