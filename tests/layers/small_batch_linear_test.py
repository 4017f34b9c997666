"""The map for few rows: nn.Linear's numbers and gradients, and never those of a weight that was changed."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch.nn import functional as F

from diptych.layers import small_batch_linear
from diptych.layers.small_batch_linear import ROWS, Blocked, SmallBatchLinear, Turned


def layer(bias: bool = True) -> SmallBatchLinear:
    torch.manual_seed(0)
    return SmallBatchLinear(7, 5, bias).double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 7), (3, 2, 7), (ROWS, 7), (ROWS + 1, 7), (0, 7)])
def test_it_is_a_linear_map(shape: tuple[int, ...], bias: bool) -> None:
    module, x = layer(bias), torch.randn(shape, dtype=torch.float64)
    with torch.inference_mode():
        found = module(x)
    torch.testing.assert_close(found, F.linear(x, module.weight, module.bias), rtol=1e-12, atol=1e-12)


def test_a_weight_that_was_changed_is_copied_again() -> None:
    module, x = layer(), torch.randn(2, 7, dtype=torch.float64)
    with torch.no_grad():
        before = module(x)
        module.weight.mul_(2)
        module.bias.zero_()
        torch.testing.assert_close(module(x), x @ module.weight.T)
        module.load_state_dict(layer().state_dict())
        torch.testing.assert_close(module(x), before)
        module.weight.data = module.weight.data + 1  # another tensor in its place
        torch.testing.assert_close(module(x), F.linear(x, module.weight, module.bias))


def test_with_gradients_it_is_nn_linear() -> None:
    module, x = layer(), torch.randn(2, 7, dtype=torch.float64)
    module(x).sum().backward()
    assert module.weight.grad is not None and module._copy._held is None
    torch.testing.assert_close(module.weight.grad, x.sum(0).expand(5, 7))


def test_large_weights_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_batch_linear, "NUMBERS", 34)
    module = layer()
    with torch.no_grad():
        module(torch.randn(1, 7, dtype=torch.float64))
    assert module._copy._held is None


def test_the_copy_is_neither_saved_nor_carried_along() -> None:
    module = layer()
    with torch.no_grad():
        module(torch.randn(1, 7, dtype=torch.float64))
    assert module._copy._held is not None and set(module.state_dict()) == {"weight", "bias"}
    assert copy.deepcopy(module)._copy._held is None
    torch.save(module, written := io.BytesIO())
    assert torch.load(io.BytesIO(written.getvalue()), weights_only=False)._copy._held is None


blocked_order = pytest.mark.skipif(
    not small_batch_linear._has_blocked_order(), reason="this build of torch has no blocked order"
)


@blocked_order
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 3, 16, ROWS])
def test_in_float32_several_rows_read_the_blocked_order(rows: int, bias: bool) -> None:
    module, x = layer(bias).float(), torch.randn(rows, 7)
    with torch.inference_mode():
        for shaped in (x, x[:, None]):
            torch.testing.assert_close(module(shaped), F.linear(shaped, module.weight, module.bias))
            assert module._copy._held is not None
            assert isinstance(module._copy._held[1], Blocked if rows >= 3 else Turned)


@blocked_order
def test_a_changed_weight_is_brought_into_blocked_order_again() -> None:
    module, x = layer().float(), torch.randn(4, 7)
    with torch.no_grad():
        module(x)
        module.weight.mul_(2)
        torch.testing.assert_close(module(x), F.linear(x, module.weight, module.bias))


@blocked_order
@pytest.mark.parametrize("blocked", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_what_it_gives_and_something_more(blocked: bool, bias: bool) -> None:
    module, x, more = layer(bias).float(), torch.randn(4, 7), torch.randn(4, 5)
    with torch.inference_mode():
        wanted = F.linear(x, module.weight, module.bias) + more
        torch.testing.assert_close(module.product(blocked).added(more, x, module.bias), wanted)


def test_a_build_without_the_blocked_order_turns_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_batch_linear, "_has_blocked_order", lambda: False)
    module, x = layer().float(), torch.randn(4, 7)
    with torch.no_grad():
        torch.testing.assert_close(module(x), F.linear(x, module.weight, module.bias))
        assert isinstance(module.product(True), Turned)


def test_prompts_and_half_precision_take_no_copy() -> None:
    module = layer().float()
    with torch.no_grad():
        module(torch.randn(2, 3, 7))
        with torch.autocast("cpu", torch.bfloat16):
            assert module(torch.randn(4, 7)).dtype == torch.bfloat16
    assert module._copy._held is None
