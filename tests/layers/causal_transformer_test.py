"""The causal trunk: equal to Llama's, to itself without a cache, and blind to what comes later and to padding."""

from __future__ import annotations

import pytest
import torch
from llama_weights import as_ours, llama
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError, DataError
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer

VARIANTS = {
    "llama": CausalConfig(24, 2, 4, 40),
    "shared key heads": CausalConfig(24, 2, 4, 40, key_heads=2),
    "head norms, norms after": CausalConfig(24, 2, 4, 40, head_norm=True, norm_after=True),
    "plain, with a memory": CausalConfig(
        24, 2, 3, 40, norm="layer", rotary=0.0, gated=False, bias=True, memory_width=10
    ),
}


def trunk(config: CausalConfig, seed: int = 0) -> CausalTransformer:
    """Random everywhere, in float64."""
    made = CausalTransformer(config).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def memory_of(config: CausalConfig, rows: int) -> tuple[Tensor | None, Tensor | None]:
    if not config.memory_width:
        return None, None
    return noise(rows, 5, config.memory_width, seed=2), torch.tensor([[[True] * 5], [[True] * 3 + [False] * 2]])[:rows]


@pytest.mark.parametrize("name", VARIANTS)
def test_no_token_sees_what_comes_later(name: str) -> None:
    config = VARIANTS[name]
    module, x = trunk(config), noise(2, 6, 24)
    memory, mask = memory_of(config, 2)
    before = module(x, memory_BMC=memory, memory_mask_B1M=mask)
    changed = x.clone()
    changed[:, 3, 0] += 1  # one number: a norm takes away what all have in common
    moved = (module(changed, memory_BMC=memory, memory_mask_B1M=mask) - before).abs().amax(-1)
    assert moved[:, :3].max() == 0
    assert moved[:, 3:].min() > 1e-6


@pytest.mark.parametrize("name", VARIANTS)
def test_a_cache_gives_what_the_whole_pass_gives_whatever_the_pieces_and_the_padding(name: str) -> None:
    config = VARIANTS[name]
    module = trunk(config)
    memory, mask = memory_of(config, 2)
    rows = [noise(7, 24, seed=3), noise(5, 24, seed=4)]
    wanted = [
        module(row[None], memory_BMC=None if memory is None else memory[[i]],
               memory_mask_B1M=None if mask is None else mask[[i]])[0]
        for i, row in enumerate(rows)
    ]  # fmt: skip
    padded = torch.stack([rows[0], F.pad(rows[1], (0, 0, 2, 0), value=9.0)])
    cache = module.cache(7, torch.tensor([0, 2]))
    pieces = [
        module(some, cache, memory_BMC=memory, memory_mask_B1M=mask)
        for some in (padded[:, :3], padded[:, 3:5], padded[:, 5:6], padded[:, 6:])
    ]
    found = torch.cat(pieces, dim=1)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1, 2:], wanted[1], rtol=1e-10, atol=1e-10)


def test_rows_of_a_cache_can_be_chosen_twice_and_dropped() -> None:
    config = VARIANTS["plain, with a memory"]
    module = trunk(config)
    memory, mask = memory_of(config, 2)
    x = noise(2, 4, 24)
    cache = module.cache(5)
    module(x, cache, memory_BMC=memory, memory_mask_B1M=mask)
    chosen = torch.tensor([1, 1, 0])
    cache.select(chosen)
    next_x = noise(3, 1, 24, seed=5)
    assert memory is not None and mask is not None
    found = module(next_x, cache, memory_BMC=memory[chosen], memory_mask_B1M=mask[chosen])
    whole = module(torch.cat([x[chosen], next_x], 1), memory_BMC=memory[chosen], memory_mask_B1M=mask[chosen])
    torch.testing.assert_close(found[:, 0], whole[:, -1], rtol=1e-10, atol=1e-10)


def test_recomputed_blocks_give_the_same_gradients() -> None:
    module, x = trunk(VARIANTS["llama"]), noise(2, 6, 24)
    found = []
    for on in (False, True):
        module.checkpointing = on
        found.append(torch.autograd.grad(module(x).square().sum(), list(module.parameters())))
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_logits_and_gradients_are_llamas(key_heads: int) -> None:
    theirs, ours = llama(key_heads)
    ids = torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(1))
    wanted = theirs(ids).logits
    found = ours(theirs.model.embed_tokens(ids)) @ theirs.lm_head.weight.T
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    theirs(ids, labels=ids).loss.backward()
    named = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    of_theirs = as_ours({name: grad for name, grad in named.items() if grad is not None}, 2)
    F.cross_entropy(found[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, of_theirs[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_full_cache_and_sizes_that_do_not_fit_are_refused() -> None:
    module = trunk(VARIANTS["llama"])
    with pytest.raises(DataError, match="4 tokens do not fit the 3"):
        module(noise(1, 4, 24), module.cache(3))
    with pytest.raises(ConfigError, match="width 24 must be divisible by 5 heads"):
        CausalConfig(24, 2, 5, 40)
    with pytest.raises(ConfigError, match="4 heads cannot share 3 key heads"):
        CausalConfig(24, 2, 4, 40, key_heads=3)
    with pytest.raises(ConfigError, match="a head of 3 numbers is odd"):
        CausalConfig(24, 2, 8, 40)
