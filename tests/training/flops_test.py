"""Counted operations against formulas, and against PyTorch's counter where it sees everything."""

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diptych.core.sample import Sample
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.contrastive import clip
from diptych.training.backward import backward
from diptych.training.flops import Counter, attention_backward, attention_forward, step_flops


def attended(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    q, k, v = (torch.randn(shape, requires_grad=True) for shape in (query, key, value))
    F.scaled_dot_product_attention(q, k, v).sum().backward()


@pytest.mark.parametrize(
    "shapes", [((2, 3, 5, 8), (2, 3, 5, 8), (2, 3, 5, 8)), ((1, 2, 4, 8), (1, 2, 9, 8), (1, 2, 9, 8))]
)
def test_fused_attention_counts_as_the_plain_products(shapes: tuple[tuple[int, ...], ...]) -> None:
    with Counter() as fused:
        attended(*shapes)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as plain:
        attended(*shapes)
    assert fused.flops == plain.get_total_flops()
    assert fused.flops == attention_forward(*shapes) + attention_backward(*shapes)


def test_pytorchs_own_counter_misses_it() -> None:
    """The reason for the formulas: once this fails they can go."""
    with FlopCounterMode(display=False) as counter:
        attended((2, 3, 5, 8), (2, 3, 5, 8), (2, 3, 5, 8))
    assert counter.get_total_flops() == 0


def samples(count: int) -> Scenes:
    return Scenes("train", config=SceneConfig(objects=1, size=32), count=count)


def test_a_step_of_clip_counts_as_with_plain_attention() -> None:
    found: list[Sample] = [samples(8)[index] for index in range(8)]
    task = clip.tiny_tasks(found)["contrastive"]
    batch = next(iter(evaluation_batches(samples(8), task.processor, 8)))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as plain:
        backward(task, [batch])
    assert step_flops(task, [batch]) == pytest.approx(plain.get_total_flops(), rel=1e-9)
