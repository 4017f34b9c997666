"""Connectors: how many vectors, in which order, and what each depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.connectors import ConnectorConfig, Resampler

S, C, D = 16, 12, 8
KINDS: dict[str, tuple[ConnectorConfig, int]] = {
    "linear": (ConnectorConfig("linear"), 16),
    "adjacent": (ConnectorConfig("linear", adjacent=4), 4),
    "mlp": (ConnectorConfig("mlp"), 16),
    "pooled": (ConnectorConfig("pooled", queries=3), 3),
    "average": (ConnectorConfig("average", queries=4), 4),
    "attention": (ConnectorConfig("attention", queries=3, heads=2), 3),
    "resampler": (ConnectorConfig("resampler", queries=5, heads=2), 5),
    "qformer": (ConnectorConfig("qformer", queries=5, depth=2, heads=2, hidden=8), 5),
    "abstractor": (ConnectorConfig("abstractor", queries=4, depth=1, hidden=8), 4),
    "mapl": (ConnectorConfig("mapl", queries=3, depth=1, heads=2, hidden=8), 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_connector_gives_as_many_vectors_as_it_says_of_each_picture_alone(kind: str) -> None:
    config, count = KINDS[kind]
    torch.manual_seed(0)
    connector = config.build(S, C, D).double()
    x = torch.randn(3, S, C, dtype=torch.float64, requires_grad=True)
    found = connector(x)
    assert config.tokens(S) == count and found.shape == (3, count, D)
    (gradient,) = torch.autograd.grad(found[1].square().sum(), x)
    assert float(gradient[0].abs().max()) == 0 == float(gradient[2].abs().max())
    assert bool((gradient[1].abs().sum(1) > 0).all()), "every feature of the picture is read"
    torch.testing.assert_close(connector(x[1:2]), found[1:2])


@pytest.mark.parametrize("kind", ["linear", "adjacent", "pooled"])
def test_a_fresh_map_gives_vectors_as_long_as_words(kind: str) -> None:
    """0.02, as word vectors begin; a frozen language model does not hear itself beside longer ones."""
    torch.manual_seed(0)
    features = torch.randn(64, 1, 64).expand(-1, S, -1)  # alike, so that their mean is as long as they are
    found = KINDS[kind][0].build(S, 64, 128)(features)
    assert 0.018 < float(found.square().mean().sqrt()) < 0.022


def test_adjacent_features_stand_side_by_side_in_raster_order() -> None:
    """MiniGPT-v2: view(B, S / 4, 4 C), not squares of 2 x 2; nothing is lost."""
    connector = ConnectorConfig("linear", adjacent=4).build(S, C, 4 * C)
    with torch.no_grad():
        connector.map.weight.copy_(torch.eye(4 * C))  # type: ignore[union-attr]
        connector.map.bias.zero_()  # type: ignore[union-attr]
    x = torch.randn(2, S, C)
    assert torch.equal(connector(x), torch.cat([x[:, 0::4], x[:, 1::4], x[:, 2::4], x[:, 3::4]], dim=-1))
    assert torch.equal(connector(x).view(2, S, C), x)


def test_means_are_of_squares_of_the_grid() -> None:
    connector = ConnectorConfig("average", queries=4).build(S, C, C)
    with torch.no_grad():
        connector.map.weight.copy_(torch.eye(C))  # type: ignore[union-attr]
        connector.map.bias.zero_()  # type: ignore[union-attr]
    x = torch.randn(1, S, C)
    torch.testing.assert_close(connector(x)[0, 1], x[0, [2, 3, 6, 7]].mean(0))


def test_a_prefix_is_one_map_of_the_mean_feature() -> None:
    """Frozen: a row of the map's weights a number, the first vector's numbers first."""
    connector: Any = ConnectorConfig("pooled", queries=3).build(S, C, D)
    x = torch.randn(2, S, C)
    whole = x.mean(1) @ connector.map.weight.T + connector.map.bias
    torch.testing.assert_close(connector(x)[:, 1], whole[:, D : 2 * D])


def test_the_mlp_is_that_of_llava() -> None:
    connector: Any = ConnectorConfig("mlp").build(S, C, D)
    x = torch.randn(2, S, C)
    hidden = F.gelu(x @ connector.up.weight.T + connector.up.bias)
    torch.testing.assert_close(connector(x), hidden @ connector.down.weight.T + connector.down.bias)


def test_a_q_former_asks_normalised_features() -> None:
    """qformer_test.py holds the Q-Former itself to the library's."""
    torch.manual_seed(0)
    connector: Any = ConnectorConfig("qformer", queries=5, depth=2, heads=2, hidden=8).build(S, C, D)
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(3, S, C)
    normed = F.layer_norm(x, (C,), connector.norm.weight, connector.norm.bias)
    asked = connector.qformer.see(normed)
    torch.testing.assert_close(connector(x), asked @ connector.map.weight.T + connector.map.bias)
    assert asked.shape == (3, 5, 8) and not torch.allclose(connector(x), connector(x.flip(1).roll(1, 2)))
    with pytest.raises(ConfigError, match="hidden 9 is not divisible by 2 heads"):
        ConnectorConfig("qformer", heads=2, hidden=9).build(S, C, D)


def test_latents_of_the_resampler_see_one_another_and_every_feature() -> None:
    resampler = ConnectorConfig("resampler", queries=4, depth=1, heads=2).build(S, C, D)
    assert isinstance(resampler, Resampler)
    x = torch.randn(1, S, C)
    before = resampler(x)
    with torch.no_grad():
        resampler.latents_QD[2, 0] += 1  # not all of them: a norm takes that out
    assert bool(((resampler(x) - before).abs().amax(2) > 1e-6).all())
    order = torch.randperm(S)
    torch.testing.assert_close(resampler(x[:, order]), resampler(x))  # no places: they are the features' own


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ConnectorConfig("linear", adjacent=3), "16 features are not divisible by connector.adjacent 3"),
        (ConnectorConfig("average", queries=3), r"'average' keeps a square grid, and connector.queries 3 is no square"),
        (ConnectorConfig("abstractor", queries=5), "connector.queries 5 is no square"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(config: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.build(S, C, D)
    with pytest.raises(ConfigError, match="at least 1"):
        ConnectorConfig(adjacent=0)
