"""Attention against a softmax that is written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.layers.attention import Attention, attend

B, H, T, S, K = 2, 3, 4, 5, 6


def tensors(*shape: int, count: int = 1, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, *shape, dtype=torch.float64, generator=generator))


def explicit(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(K)) v for one head of one row, by loops over queries."""
    rows = []
    for i, query in enumerate(q):
        logits = torch.stack([query @ key / math.sqrt(len(query)) for key in k])
        if visible is not None:
            logits = torch.where(visible[i], logits, torch.tensor(-math.inf, dtype=logits.dtype))
        weights = logits.exp() / logits.exp().sum()
        rows.append((weights[:, None] * v).sum(0))
    return torch.stack(rows)


def every_head(q: Tensor, k: Tensor, v: Tensor, mask_BTS: Tensor | None = None) -> Tensor:
    return torch.stack([
        torch.stack([explicit(q[b, h], k[b, h], v[b, h], None if mask_BTS is None else mask_BTS[b]) for h in range(H)])
        for b in range(B)
    ])  # fmt: skip


def test_attention_is_a_softmax_of_scaled_products() -> None:
    (q,) = tensors(B, H, T, K)
    k, v = tensors(B, H, S, K, count=2, seed=1)
    torch.testing.assert_close(attend(q, k, v, None), every_head(q, k, v), rtol=1e-12, atol=1e-13)


def test_a_mask_says_where_each_query_may_look() -> None:
    (q,) = tensors(B, H, T, K)
    k, v = tensors(B, H, S, K, count=2, seed=1)
    mask = torch.rand(B, T, S, generator=torch.Generator().manual_seed(2)) > 0.5
    mask[..., 0] = True
    found = attend(q, k, v, mask)
    torch.testing.assert_close(found, every_head(q, k, v, mask), rtol=1e-12, atol=1e-13)


def test_one_row_of_a_mask_serves_all_queries() -> None:
    (q,) = tensors(B, H, T, K)
    k, v = tensors(B, H, S, K, count=2, seed=1)
    row = torch.tensor([[True, True, False, True, False], [True] * 5])
    found = attend(q, k, v, row[:, None])
    torch.testing.assert_close(found, attend(q, k, v, row[:, None].expand(B, T, S)), rtol=0, atol=0)
    changed = v.clone()
    changed[0, :, [2, 4]] += 100.0
    torch.testing.assert_close(attend(q, k, changed, row[:, None]), found, rtol=0, atol=0)
    changed[0, :, 3] += 100.0
    assert float((attend(q, k, changed, row[:, None]) - found).abs().max()) > 1


def test_causal_attention_is_a_triangular_mask() -> None:
    q, k, v = tensors(B, H, T, K, count=3)
    triangle = torch.ones(T, T, dtype=torch.bool).tril().expand(B, T, T)
    torch.testing.assert_close(
        attend(q, k, v, None, causal=True), every_head(q, k, v, triangle), rtol=1e-12, atol=1e-13
    )


def test_the_module_splits_width_into_heads_and_maps_their_outputs() -> None:
    module = Attention(12, 3).double()
    (x,) = tensors(B, T, 12)
    q, k, v = (x @ module.qkv.weight.T + module.qkv.bias).chunk(3, dim=-1)
    mixed = torch.zeros(B, T, 12, dtype=torch.float64)
    for b in range(B):
        for h in range(3):
            part = slice(4 * h, 4 * h + 4)
            mixed[b, :, part] = explicit(q[b, :, part], k[b, :, part], v[b, :, part])
    torch.testing.assert_close(module(x), mixed @ module.out.weight.T + module.out.bias, rtol=1e-12, atol=1e-13)


def test_queries_of_a_few_positions_are_those_rows_of_all() -> None:
    module = Attention(12, 3).double()
    (x,) = tensors(B, T, 12)
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])[:, None]
    torch.testing.assert_close(module(x, mask, query_BTD=x[:, 1:3]), module(x, mask)[:, 1:3], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_the_written_out_softmax(causal: bool) -> None:
    q, k, v = sides = [t.requires_grad_() for t in tensors(B, H, T, K, count=3)]
    triangle = torch.ones(T, T, dtype=torch.bool).tril().expand(B, T, T) if causal else None
    (weights,) = tensors(B, H, T, K, seed=5)
    found = torch.autograd.grad((attend(q, k, v, None, causal) * weights).sum(), sides)
    expected = torch.autograd.grad((every_head(q, k, v, triangle) * weights).sum(), sides)
    for ours, by_hand in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-10, atol=1e-12)


def test_bf16_on_a_cpu_is_computed_in_fp32() -> None:
    """The result is the fp32 attention of the same bf16 values, rounded once."""
    q, k, v = (t.bfloat16() for t in tensors(1, 2, 64, 16, count=3))
    exact = attend(q.float(), k.float(), v.float(), None)
    found = attend(q, k, v, None)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, exact.bfloat16())


def test_under_bf16_autocast_the_softmax_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.dtype, bool]] = []
    inner = torch.nn.functional.scaled_dot_product_attention

    def watched(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        seen.append((q.dtype, torch.is_autocast_enabled("cpu")))
        return inner(q, k, v, mask, is_causal=is_causal)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    module = Attention(12, 3)
    x = tensors(B, T, 12)[0].float()
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x)
    assert seen == [(torch.float32, False)]
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert module.qkv.weight.grad is not None and bool(module.qkv.weight.grad.isfinite().all())


def test_a_width_that_heads_do_not_divide_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match="width 10 is not divisible by 3 heads"):
        Attention(10, 3)
