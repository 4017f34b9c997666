import pytest
import torch

from diptych.core.losses import Part, total


def test_parts_are_weighted_means() -> None:
    parts = {"a": Part(torch.tensor(6.0), 3, weight=2.0), "b": Part(torch.tensor(5.0), 10)}
    assert float(total(parts)) == pytest.approx(2 * 2 + 0.5)


def test_a_part_with_nothing_to_count_is_its_sum() -> None:
    assert float(Part(torch.tensor(0.0), 0).value) == 0.0
