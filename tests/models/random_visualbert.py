"""A VisualBERT of ours with every parameter random, and its batch of eight scenes."""

from __future__ import annotations

import torch
from contract import eight_samples, whole_batch

from diptych.data.batches.region_batch import RegionTextBatch
from diptych.models.early_fusion import visualbert
from diptych.models.early_fusion.visualbert import VisualBertTask


def task_of(name: str = "grid") -> VisualBertTask:
    """Every parameter away from where it begins, in float64."""
    torch.manual_seed(0)
    task = visualbert.tiny_tasks(eight_samples())[name].double()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return task


def batch_of(task: VisualBertTask) -> RegionTextBatch:
    batch: RegionTextBatch = whole_batch(task, eight_samples())
    return batch
