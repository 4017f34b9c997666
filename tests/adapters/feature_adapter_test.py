"""CLIP-Adapter: its equation, its size, and nothing at ratio 0."""

import pytest
import torch

from diptych.adapters.feature_adapter import FeatureAdapter
from diptych.core.errors import ConfigError


def test_against_the_equation() -> None:
    torch.manual_seed(0)
    adapter = FeatureAdapter(8, ratio=0.2).double()
    feature = torch.randn(5, 8, dtype=torch.float64)
    first, second = adapter.down.weight, adapter.up.weight
    hidden = (feature @ first.T).clamp(min=0)
    expected = 0.2 * (hidden @ second.T).clamp(min=0) + 0.8 * feature
    torch.testing.assert_close(adapter(feature), expected, rtol=0, atol=1e-14)


def test_ratio_0_is_the_tower_alone() -> None:
    feature = torch.randn(5, 8)
    assert torch.equal(FeatureAdapter(8, ratio=0.0)(feature), feature)


@pytest.mark.parametrize(("width", "reduction"), [(64, 4), (10, 3)])
def test_parameters_are_those_of_the_formula(width: int, reduction: int) -> None:
    adapter = FeatureAdapter(width, reduction)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * width * (width // reduction)


@pytest.mark.parametrize(("reduction", "ratio"), [(4, 1.5), (0, 0.2), (9, 0.2)])
def test_what_makes_no_adapter_is_refused(reduction: int, ratio: float) -> None:
    with pytest.raises(ConfigError, match="ratio"):
        FeatureAdapter(8, reduction, ratio)
