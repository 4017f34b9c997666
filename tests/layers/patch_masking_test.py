"""A vision tower that is given some of its patches (FLIP): which it sees, what it costs, and open_clip's mechanism."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from diptych.core.errors import ConfigError
from diptych.layers.masking import kept_patches
from diptych.layers.vision_transformer import Pooling, VisionConfig, VisionTransformer

CONFIG = VisionConfig(32, 4, width=20, depth=3, heads=5, hidden=28, pre_norm=True)
POOLINGS: tuple[Pooling, ...] = ("cls", "mean", "map")
SEEDS = (3, 1, 4)


def tower(**changed: Any) -> VisionTransformer:
    """Random everywhere, in float64."""
    made = VisionTransformer(replace(CONFIG, **changed)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


def pictures(size: int = 32) -> Tensor:
    return torch.randn(3, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_all_patches_kept_is_the_plain_tower(pooling: Pooling) -> None:
    module, everything = tower(pooling=pooling), torch.arange(64).expand(3, 64)
    assert_equal(module(pictures(), everything), module(pictures()))
    assert torch.equal(module(pictures(), None), module(pictures()))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_order_of_what_is_kept_does_not_matter_and_its_choice_does(pooling: Pooling) -> None:
    module, kept = tower(pooling=pooling), kept_patches(SEEDS, 64, 20)
    before = module(pictures(), kept)
    assert_equal(module(pictures(), kept.flip(1)), before)
    other = module(pictures(), kept_patches((9, 9, 9), 64, 20))
    assert bool(((other - before).abs().amax(1) > 1e-4).all())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pixels_that_are_dropped_get_no_gradient_and_all_others_do(pooling: Pooling) -> None:
    module, kept, images = tower(pooling=pooling), kept_patches(SEEDS, 64, 20), pictures().requires_grad_()
    module(images, kept).square().sum().backward()
    assert images.grad is not None
    moved = F.unfold(images.grad.abs(), 4, stride=4).sum(1)
    seen = torch.zeros(3, 64, dtype=torch.bool).scatter_(1, kept, True)
    assert torch.equal(moved > 0, seen)


@pytest.mark.parametrize("tokens", [1, 3])
def test_class_tokens_are_never_dropped_and_keep_their_own_positions(tokens: int) -> None:
    module, kept = tower(class_tokens=tokens), kept_patches(SEEDS, 64, 1)
    embedded = module.embed(pictures(), kept)
    assert embedded.shape == (3, tokens + 1, 20)
    assert_equal(embedded[:, :tokens], module.embed(pictures())[:, :tokens])
    assert_equal(embedded[:, tokens], module.embed(pictures())[range(3), tokens + kept[:, 0]])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_another_size_than_the_learned_one_is_masked_too(pooling: Pooling) -> None:
    module, kept = tower(pooling=pooling), torch.arange(256).expand(3, 256)
    assert_equal(module(pictures(64), kept), module(pictures(64)))


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.5, 1.9, 2.3), (0.75, 3.6, 4.6)])
def test_what_is_dropped_costs_nothing(ratio: float, least: float, most: float) -> None:
    """Floating point operations of forward and backward pass, the patches' own matrix product among them."""
    module = VisionTransformer(VisionConfig(128, 8, width=32, depth=2, heads=4, hidden=128))
    images = torch.randn(2, 3, 128, 128)

    def cost(kept: Tensor | None) -> int:
        with FlopCounterMode(display=False) as counter:
            module(images, kept).square().sum().backward()
        return int(counter.get_total_flops())

    assert least < cost(None) / cost(kept_patches((1, 2), 256, int(256 * (1 - ratio)))) < most


def test_several_class_tokens_have_vectors_and_positions_of_their_own() -> None:
    module = tower(class_tokens=3)
    assert module.cls_D is None and module.cls_KD is not None and module.cls_KD.shape == (3, 20)
    assert module.positions_TD.shape == (67, 20)
    found = module.class_tokens(pictures())
    assert_equal(found, module.tokens(pictures())[:, :3])
    assert_equal(module(pictures()), found[:, 0])
    with torch.no_grad():
        module.cls_KD[1].neg_()
    moved = (module.class_tokens(pictures()) - found).abs().amax((0, 2))
    assert bool((moved > 1e-6).all()), "class tokens see each other"


def test_one_class_token_has_the_names_of_public_weights() -> None:
    names = set(tower().state_dict())
    assert {"cls_D", "positions_TD"} <= names and "cls_KD" not in names
    module = tower()
    assert_equal(module.class_tokens(pictures())[:, 0], module(pictures()))


@pytest.mark.parametrize(("tokens", "pooling"), [(0, "cls"), (-1, "cls"), (2, "map"), (4, "mean")])
def test_class_tokens_that_cannot_be_are_refused(tokens: int, pooling: Pooling) -> None:
    with pytest.raises(ConfigError, match=f"class_tokens {tokens} with pooling '{pooling}'"):
        VisionConfig(pooling=pooling, class_tokens=tokens)
