"""LoRA on pairs: the base's loss at first, LoRA alone moves, and merged it is a plain model that learned."""

from __future__ import annotations

import copy

import pytest
import torch
from adapted_test import SAMPLES, SCENES, base_of

from diptych.adapters.lora import LoraConfig
from diptych.core.losses import total
from diptych.core.seeding import seed_everything
from diptych.data.batches.image_text import ImageTextBatch
from diptych.data.loading.loader import evaluation_batches
from diptych.layers.weight_hash import weight_hash
from diptych.models.contrastive.clip import ClipTask
from diptych.models.contrastive.fine_tuned import FineTunedTask
from diptych.models.contrastive.siglip import SiglipTask

RANK = 2


def task_of(family: str) -> FineTunedTask:
    base = base_of(family)
    seed_everything("fine-tuned")
    return FineTunedTask(LoraConfig(RANK, 8.0), base.processor, base)


def batch_of(task: FineTunedTask) -> ImageTextBatch:
    return next(iter(evaluation_batches(SCENES, task.processor, len(SAMPLES))))


@pytest.mark.parametrize(("family", "kind"), [("clip", ClipTask), ("siglip", SiglipTask)])
def test_at_first_the_loss_is_the_bases(family: str, kind: type[ClipTask] | type[SiglipTask]) -> None:
    base = base_of(family)
    plain = kind(base.config, base.processor)  # type: ignore[arg-type]
    plain.model.load_state_dict(base.module.state_dict())
    task = task_of(family)
    torch.testing.assert_close(total(task.losses(batch_of(task))), total(plain.losses(batch_of(task))))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_lora_alone_moves_and_what_it_learned_can_be_merged(family: str) -> None:
    task = task_of(family)
    plain = copy.deepcopy(base_of(family).module)
    before = weight_hash(plain)
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    width, depth = 96, 3
    expected = 2 * depth * RANK * ((width + 3 * width) + (width + width))
    assert sum(p.numel() for p in task.parameters() if p.requires_grad) == expected
    optimizer, batch = torch.optim.AdamW(task.parameters(), lr=1e-2, weight_decay=0.5), batch_of(task)
    first = float(total(task.losses(batch)).detach())
    task.train()
    assert not task.pairs.model.training
    for _ in range(20):
        optimizer.zero_grad()
        total(task.losses(batch)).backward()
        optimizer.step()
        task.after_step()
    assert float(total(task.losses(batch)).detach()) < 0.9 * first
    state = task.pairs.model.state_dict()
    plain.load_state_dict({n.replace(".base_layer", ""): p for n, p in state.items() if "lora_" not in n})
    assert weight_hash(plain) == before
    predictor = task.predictor()
    merged, pictures = predictor.merged(), [sample.image for sample in SAMPLES]
    torch.testing.assert_close(merged.encode_image(pictures), predictor.encode_image(pictures), rtol=0, atol=1e-5)
    texts = [sample.texts[0] for sample in SAMPLES]
    torch.testing.assert_close(merged.encode_text(texts), predictor.encode_text(texts), rtol=0, atol=1e-5)
