"""BERT's encoder and masked-language head against `transformers`' BertForMaskedLM: float64, every parameter random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from diptych.layers.bert import INITIAL_STD, BertConfig, BertEncoder, MaskedWordHead, initialise, rows_at
from diptych.layers.transformer import Activation

HF: Any = transformers
LENGTHS = torch.tensor([7, 3, 5])
SIZES = BertConfig(vocab_size=30, context=16, width=24, depth=2, heads=3, hidden=40)


def theirs_of(act: str = "gelu") -> Any:
    config = HF.BertConfig(
        vocab_size=30, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, hidden_act=act,
        max_position_embeddings=16,
    )  # fmt: skip
    model = HF.BertForMaskedLM(config).eval().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def filled(encoder: BertEncoder, theirs: Any) -> BertEncoder:
    """Our encoder with their weights."""
    with torch.no_grad():
        for ours, layer in zip(encoder.blocks, theirs.bert.encoder.layer, strict=True):
            assert isinstance(ours, nn.Module)
            inner = getattr(layer.attention, "self")  # noqa: B009  (a name that mypy takes for something else)
            parts = [inner.query, inner.key, inner.value]
            _fill(ours.attention.qkv, torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
            for own, other in (
                (ours.attention.out, layer.attention.output.dense),
                (ours.norm1, layer.attention.output.LayerNorm),
                (ours.mlp.up, layer.intermediate.dense),
                (ours.mlp.down, layer.output.dense),
                (ours.norm2, layer.output.LayerNorm),
            ):
                _fill(own, other.weight, other.bias)
    return encoder


def _fill(own: Any, weight: Tensor, bias: Tensor) -> None:
    own.weight.copy_(weight)
    own.bias.copy_(bias)


def hidden(requires_grad: bool = False) -> Tensor:
    x = torch.randn(3, 7, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x.requires_grad_(requires_grad)


def inside() -> Tensor:
    return (torch.arange(7) < LENGTHS[:, None])[:, None]


@pytest.mark.parametrize(("act", "ours"), [("gelu", Activation.GELU), ("gelu_pytorch_tanh", Activation.GELU_TANH)])
def test_hidden_states_and_input_gradients_are_those_of_transformers(act: str, ours: Activation) -> None:
    theirs = theirs_of(act)
    sizes = BertConfig(30, 16, 24, 2, 3, 40, activation=ours)
    encoder = filled(BertEncoder(sizes).double(), theirs)
    x, y = hidden(True), hidden(True)
    added = torch.zeros(3, 1, 1, 7, dtype=torch.float64).masked_fill(~inside()[:, None], torch.finfo(torch.float64).min)
    expected = theirs.bert.encoder(y, attention_mask=added).last_hidden_state
    found = encoder(x, inside())
    real = inside()[:, 0]
    torch.testing.assert_close(found[real], expected[real], rtol=1e-10, atol=1e-12)
    (found[real] ** 3).sum().backward()
    (expected[real] ** 3).sum().backward()
    assert x.grad is not None and y.grad is not None
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-9, atol=1e-10)


def test_the_head_is_that_of_transformers_with_the_tied_matrix() -> None:
    theirs = theirs_of()
    head, their_head = MaskedWordHead(SIZES).double(), theirs.cls.predictions
    with torch.no_grad():
        _fill(head.dense, their_head.transform.dense.weight, their_head.transform.dense.bias)
        _fill(head.norm, their_head.transform.LayerNorm.weight, their_head.transform.LayerNorm.bias)
        head.bias_V.copy_(their_head.bias)
    rows = hidden()[0]
    words = theirs.bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(head(rows, words), theirs.cls(rows), rtol=1e-10, atol=1e-12)
    assert head(rows[:0], words).shape == (0, 30)


def test_padding_is_invisible() -> None:
    encoder = filled(BertEncoder(SIZES).double(), theirs_of())
    x = hidden()
    changed = torch.where(inside().transpose(1, 2), x, x + 5)
    real = inside()[:, 0]
    torch.testing.assert_close(encoder(changed, inside())[real], encoder(x, inside())[real], rtol=1e-12, atol=1e-12)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = encoder(x[row : row + 1, :length])
        torch.testing.assert_close(alone[0], encoder(x, inside())[row, :length], rtol=1e-10, atol=1e-12)


def test_every_token_sees_every_token() -> None:
    encoder = filled(BertEncoder(SIZES).double(), theirs_of())
    x = hidden()[:1]
    before = encoder(x)
    for place in range(7):
        changed = x.clone()
        changed[0, place] += torch.arange(24) % 5
        assert bool(((encoder(changed) - before).abs().amax(-1) > 1e-6).all()), place


@pytest.mark.parametrize("mask", [inside, lambda: None])
def test_some_positions_alone_are_the_same_values_and_gradients(mask: Callable[[], Tensor | None]) -> None:
    encoder = filled(BertEncoder(SIZES).double(), theirs_of())
    places = torch.tensor([[0, 6, 2], [0, 1, 0], [4, 0, 3]])
    x, y = hidden(True), hidden(True)
    some, all_of_them = encoder(x, mask(), places), rows_at(encoder(y, mask()), places)
    torch.testing.assert_close(some, all_of_them, rtol=1e-11, atol=1e-12)
    (some**3).sum().backward()
    (all_of_them**3).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-9, atol=1e-11)


def test_recomputed_blocks_give_the_same_gradients() -> None:
    encoder = filled(BertEncoder(SIZES).double(), theirs_of())
    places = torch.tensor([[0, 3]] * 3)
    found = []
    for on in (False, True):
        encoder.zero_grad()
        encoder.checkpointing = on
        (encoder(hidden(), inside(), places) ** 2).sum().backward()
        found.append([parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None])
    assert len(found[0]) == len(list(encoder.parameters()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_matrices_begin_so_that_they_keep_the_size_of_what_passes() -> None:
    torch.manual_seed(0)
    encoder = BertEncoder(BertConfig(width=96, heads=3, hidden=384, depth=3))
    for name, matrix in encoder.named_parameters():
        if matrix.ndim == 2:
            assert float(matrix.detach().std()) == pytest.approx(matrix.shape[1] ** -0.5, rel=0.03), name
    words = nn.Embedding(500, 96)
    initialise(words)
    assert float(words.weight.detach().std()) == pytest.approx(INITIAL_STD, rel=0.03)
    assert all(float(p.detach().abs().max()) == 0 for name, p in encoder.named_parameters() if name.endswith("bias"))
