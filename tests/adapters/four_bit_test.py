"""Linear maps in 4 bits: the published rule, their memory, and what leaves them as they are."""

from __future__ import annotations

import builtins
import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from diptych.adapters.four_bit import FourBitLinear, hold_in_four_bits
from diptych.adapters.frozen import parameter_counts
from diptych.adapters.language import LanguageAdapterConfig, add_adapter
from diptych.core.errors import ConfigError, MissingExtra
from diptych.core.task import Task
from diptych.distributed.world import World
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.training.parallel import wrap

_NF4 = (
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
)  # fmt: skip
"""As published, appendix E."""


def plain(inputs: int = 64, outputs: int = 48) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs)


def by_hand(weight_NK: Tensor) -> Tensor:
    """Quantised once: of 64 weights the largest magnitude, times the nearest of 16 values."""
    blocks = weight_NK.detach().reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks / scale)[..., None].sub(torch.tensor(_NF4)).abs().argmin(-1)
    return (torch.tensor(_NF4)[nearest] * scale).view_as(weight_NK)


def test_the_weights_are_those_of_the_published_rule() -> None:
    linear = plain()
    once = FourBitLinear(linear, twice=False).plain()
    torch.testing.assert_close(once.weight, by_hand(linear.weight), rtol=0, atol=1e-6)
    twice = FourBitLinear(linear, twice=True).plain()
    assert isinstance(twice.weight, Tensor) and isinstance(once.weight, Tensor)
    off = float((twice.weight - once.weight).detach().abs().max() / once.weight.detach().abs().max())
    assert 0 < off < 0.01  # 8 bits of a scale are worth less than a percent of it


@pytest.mark.parametrize("twice", [True, False])
def test_a_pass_and_its_gradient_are_those_of_the_weights_it_stands_for(twice: bool) -> None:
    held = FourBitLinear(plain(), twice)
    whole = held.plain()
    x = torch.randn(3, 5, 64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    found, expected = held(x), whole(y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(held(x[:1, :1]), expected[:1, :1].detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
def test_it_answers_in_the_type_it_is_asked_in(kind: torch.dtype) -> None:
    held = FourBitLinear(plain(), twice=True)
    x = torch.randn(4, 64)
    found = held(x.to(kind))
    assert found.dtype == kind
    torch.testing.assert_close(found.float(), held(x), rtol=0, atol=2e-2 if kind == torch.bfloat16 else 1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert held(x).dtype == torch.bfloat16 == F.linear(x, x).dtype


def test_changes_of_type_and_copies_leave_it_as_it_is() -> None:
    held = FourBitLinear(plain(), twice=True)
    before = _weight(held)
    again = copy.deepcopy(held).to(torch.bfloat16).float().double().float()
    assert torch.equal(_weight(again), before)
    other = FourBitLinear(nn.Linear(64, 48), twice=True)
    other.load_state_dict(held.state_dict())
    x = torch.randn(2, 64)
    assert torch.equal(other(x), held(x))


def _weight(held: FourBitLinear) -> Tensor:
    weight = held.plain().weight
    assert isinstance(weight, Tensor)
    return weight.detach()


@pytest.mark.parametrize(("twice", "bits"), [(True, 4.127), (False, 4.5)])
def test_the_bytes_it_takes(twice: bool, bits: float) -> None:
    held = FourBitLinear(nn.Linear(2048, 512, bias=False), twice)
    assert not list(held.parameters())
    assert 8 * sum(one.nbytes for one in held.buffers()) / held.weights == pytest.approx(bits, abs=0.001)
    assert parameter_counts(held) == (0, 2048 * 512)


def test_gpt2_s_turned_maps_come_back_as_they_were() -> None:
    turned = Conv1D(48, 64)
    held = FourBitLinear(turned, twice=False)
    back = held.plain()
    assert isinstance(back, Conv1D)
    torch.testing.assert_close(back.weight.t(), by_hand(turned.weight.t().contiguous()), rtol=0, atol=1e-6)
    x = torch.randn(2, 64)
    torch.testing.assert_close(held(x), back(x), rtol=0, atol=1e-6)


def test_which_maps_are_held() -> None:
    """Those in blocks; no head, and not what T5 reads the type of."""
    config = transformers.T5Config(vocab_size=20, d_model=64, d_ff=64, d_kv=32, num_layers=1, num_heads=2)
    model = transformers.T5ForConditionalGeneration(config).eval()
    names = hold_in_four_bits(model, twice=True)
    assert {name.rpartition(".")[2] for name in names} == {"q", "k", "v", "o", "wi"}
    assert type(model.lm_head) is nn.Linear
    tokens = torch.arange(6)[None]
    assert bool(model(input_ids=tokens, decoder_input_ids=tokens).logits.isfinite().all())
    trunk = CausalTransformer(CausalConfig(64, 2, 2, 64))
    held = {name.rpartition(".")[2] for name in hold_in_four_bits(trunk, twice=True)}
    assert held == {"query", "key_value", "out", "up", "down"}


def test_a_model_without_blocks_and_a_machine_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="qlora finds nothing to change in Linear"):
        add_adapter(plain(), LanguageAdapterConfig("qlora", 2))
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "bitsandbytes":
            raise ModuleNotFoundError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"in 4 bits needs bitsandbytes: pip install 'diptych\[qlora\]'"):
        FourBitLinear(plain(), twice=True)


def test_fsdp_does_not_take_it() -> None:
    held: Task[Any] = nn.Sequential(FourBitLinear(plain(), twice=True))  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="FSDP2 would not shard weights that are held in 4 bits"):
        wrap(held, World(0, 2), "fsdp", torch.device("cpu"))
