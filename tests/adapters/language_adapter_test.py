"""LoRA, DoRA and VeRA in language models: nothing at first, their equations, merged, and trained alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from diptych.adapters.language import LanguageAdapterConfig, Method, add_adapter
from diptych.adapters.lora import merged
from diptych.core.errors import ConfigError
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.weight_hash import weight_hash

RANK, ALPHA, WIDTH = 3, 6.0, 16
METHODS: tuple[Method, ...] = ("lora", "dora", "vera")
_SIZES = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
Run = Callable[[nn.Module], Tensor]


def trunk() -> CausalTransformer:
    return CausalTransformer(CausalConfig(WIDTH, 2, 4, 24, key_heads=2))


def qwen() -> nn.Module:
    config = transformers.Qwen2Config(**_SIZES, num_key_value_heads=1, vocab_size=20)
    return transformers.Qwen2ForCausalLM(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(n_embd=WIDTH, n_layer=2, n_head=2, vocab_size=20, n_positions=16)
    return transformers.GPT2LMHeadModel(config)


MODELS: dict[str, Callable[[], nn.Module]] = {"trunk": trunk, "qwen2": qwen, "gpt2": gpt2}


def model_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    module = MODELS[kind]().double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.requires_grad_(False)


def run(module: nn.Module) -> Tensor:
    x = torch.randn(2, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found: Any = module(x) if isinstance(module, CausalTransformer) else module(inputs_embeds=x).logits
    out: Tensor = found
    return out


def adapted(kind: str, method: Method, fill: bool = True) -> tuple[nn.Module, nn.Module, frozenset[str]]:
    """The plain model, one with an adapter, filled with noise, and the names of what is trained."""
    plain = model_of(kind)
    module = copy.deepcopy(plain)
    names = add_adapter(module, LanguageAdapterConfig(method, RANK, ALPHA))
    module.double()
    if fill:
        for name in names:
            nn.init.normal_(module.get_parameter(name), std=0.3)
    return plain, module, names


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", MODELS)
def test_at_first_it_is_the_base_and_merged_it_is_a_plain_model(kind: str, method: Method) -> None:
    plain, module, _ = adapted(kind, method, fill=False)
    torch.testing.assert_close(run(module), run(plain), rtol=0, atol=1e-12)
    plain, module, _ = adapted(kind, method)
    assert float((run(module) - run(plain)).detach().abs().max()) > 1e-2
    whole = merged(module)
    torch.testing.assert_close(run(whole), run(module), rtol=0, atol=1e-10)
    assert whole.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("method", METHODS)
def test_against_its_equation(method: Method) -> None:
    plain, module, names = adapted("trunk", method)
    weights = dict(module.named_parameters()) | dict(module.named_buffers(remove_duplicate=False))
    for block in range(2):
        for leaf in ("query", "key_value"):
            name = f"blocks.{block}.attention.{leaf}"
            base = plain.get_submodule(name)
            assert isinstance(base, nn.Linear)
            base.weight.data = _changed(base.weight, name, weights, method).detach()
    torch.testing.assert_close(run(module), run(plain), rtol=0, atol=1e-10)
    per_map = {"lora": 2, "dora": 3, "vera": 2}[method]
    assert len(names) == 2 * 2 * per_map


def _changed(weight: Tensor, name: str, weights: dict[str, Tensor], method: Method) -> Tensor:
    out, into = weight.shape
    if method == "vera":
        a, b = weights[f"{name}.vera_A.default"][:, :into], weights[f"{name}.vera_B.default"][:out]
        rows, columns = weights[f"{name}.vera_lambda_b.default"], weights[f"{name}.vera_lambda_d.default"]
        return weight + rows[:, None] * (b @ (columns[:, None] * a))
    a, b = weights[f"{name}.lora_A.default.weight"], weights[f"{name}.lora_B.default.weight"]
    added = weight + ALPHA / RANK * b @ a
    if method == "lora":
        return added
    magnitude = weights[f"{name}.lora_magnitude_vector.default.weight"]
    return magnitude[:, None] * added / added.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["trunk", "gpt2"])
def test_a_step_changes_the_adapter_and_nothing_else(kind: str, method: Method) -> None:
    _, module, names = adapted(kind, method)
    assert {name for name, p in module.named_parameters() if p.requires_grad} == names
    rest = nn.ParameterList([p for name, p in module.named_parameters() if name not in names])
    before, held = weight_hash(rest), {name: module.get_parameter(name).clone() for name in names}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    run(module).square().mean().backward()
    optimizer.step()
    assert weight_hash(rest) == before
    assert all(not torch.equal(module.get_parameter(name), held[name]) for name in names)


def test_maps_are_chosen_by_name_and_wrong_ones_are_refused() -> None:
    module = trunk()
    names = add_adapter(module, LanguageAdapterConfig("lora", RANK, targets=("down",)))
    assert {name.rpartition(".lora")[0] for name in names} == {"blocks.0.mlp.down", "blocks.1.mlp.down"}
    with pytest.raises(ConfigError, match=r"name linear maps with adapter\.targets"):
        add_adapter(trunk(), LanguageAdapterConfig("lora", RANK, targets=("q_proj",)))
    with pytest.raises(ConfigError, match=r"adapter\.rank 0"):
        LanguageAdapterConfig("lora", 0)
