"""The head on cached features, by its numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from diptych.layers.feature_head import FeatureHead


def rows() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 3.0 + 5.0 * torch.randn(50, 4, generator=generator)


def test_features_are_standardised_by_the_rows_it_was_given() -> None:
    head = FeatureHead(4, 0, 4, 0.5, 0.5).eval()
    head.standardise_by(rows())
    seen: list[torch.Tensor] = []
    head.out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(rows())
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[0].std(0), torch.ones(4), rtol=1e-5, atol=1e-5)


def test_a_feature_that_never_varies_is_not_divided_by_zero() -> None:
    head = FeatureHead(4, 0, 2, 0.0, 0.0)
    constant = rows()
    constant[:, 1] = 7.0
    head.standardise_by(constant)
    assert head.std_F[1] == torch.tensor(1e-3)
    assert bool(head(constant).isfinite().all())


def test_with_a_hidden_layer_it_is_two_linear_maps_around_a_gelu() -> None:
    head = FeatureHead(4, 6, 3, 0.5, 0.3).eval()
    head.standardise_by(rows())
    state = dict(head.named_parameters())
    normal = (rows() - rows().mean(0)) / rows().std(0)
    hidden = F.gelu(normal @ state["hidden.weight"].T + state["hidden.bias"])
    expected = hidden @ state["out.weight"].T + state["out.bias"]
    torch.testing.assert_close(head(rows()), expected)


def test_without_one_it_is_one_linear_map() -> None:
    head = FeatureHead(4, 0, 3, 0.5, 0.3).eval()
    state = dict(head.named_parameters())
    assert set(state) == {"out.weight", "out.bias"}
    torch.testing.assert_close(head(rows()), rows() @ state["out.weight"].T + state["out.bias"])


@pytest.mark.parametrize(("hidden", "dropout", "input_dropout"), [(0, 0.0, 0.3), (4000, 0.5, 0.0), (4000, 0.5, 0.3)])
def test_dropout_acts_in_training_at_its_rates_and_not_after(hidden: int, dropout: float, input_dropout: float) -> None:
    torch.manual_seed(0)
    head = FeatureHead(4000, hidden, 8, dropout, input_dropout)
    shares = []
    for layer in (head.hidden, head.out) if hidden else (head.out,):
        assert layer is not None
        layer.register_forward_pre_hook(lambda _, inputs: shares.append(float((inputs[0] == 0).float().mean())))
    x, seeds = torch.ones(8, 4000) * torch.linspace(1, 2, 8)[:, None], torch.arange(8)
    head(x, seeds)
    wanted = [input_dropout, dropout] if hidden else [input_dropout]
    assert shares == pytest.approx(wanted, abs=0.02)
    head.eval()
    shares.clear()
    assert torch.equal(head(x, seeds), head(x))
    assert max(shares) < 0.01


def test_what_it_standardises_by_is_saved_with_the_weights() -> None:
    head, again = FeatureHead(4, 6, 3, 0.0, 0.0), FeatureHead(4, 6, 3, 0.0, 0.0)
    head.standardise_by(rows())
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(rows()), head(rows()))
    assert torch.equal(again.mean_F, rows().mean(0))
