"""One VisualBERT of 23.3 M parameters on both sides: transformers', and ours with its weights.

B batch, T words, R regions, F region width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.core.losses import IGNORED, total
from diptych.core.task import decay_groups
from diptych.data.batches.image_text import TextPreprocessing
from diptych.data.batches.region_text import RegionTextConfig, RegionTextProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.data.words.word_masking import MaskedWords
from diptych.layers.bert import BertConfig
from diptych.models._weight_tables import read
from diptych.models.early_fusion import visualbert
from diptych.models.early_fusion._visualbert_module import Seen
from diptych.models.early_fusion._visualbert_public import transformers_visualbert
from diptych.training.optimizer import AdamWConfig

WORDS, REGIONS, REGION_WIDTH, VOCABULARY = 24, 36, 512, 30522
WIDTH, DEPTH, HEADS, HIDDEN = 384, 6, 6, 1536
MASK_ID, SHARE = 103, 0.15
LR, DECAY = 1e-4, 0.01


class Data(NamedTuple):
    """A batch: no padding, 15 % of the words hidden, half of the pairs true."""

    tokens_BT: Tensor
    labels_BT: Tensor
    features_BRF: Tensor
    matches_B: Tensor


Step = Callable[[Data], float]
"""Forward, backward, optimizer; the loss before it."""


def batches(count: int, size: int) -> list[Data]:
    """The same from one seed. Words are asked for in all pairs, as transformers does it."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        words = torch.randint(1000, VOCABULARY, (size, WORDS), generator=generator)
        asked = torch.rand(size, WORDS, generator=generator) < SHARE
        asked[:, 1] = True
        features = torch.randn(size, REGIONS, REGION_WIDTH, generator=generator)
        matches = torch.rand(size, generator=generator) < 0.5
        labels = words.masked_fill(~asked, IGNORED)
        found.append(Data(words.masked_fill(asked, MASK_ID), labels, features, matches))
    return found


def theirs(package: Any) -> Any:
    """transformers' model, from one seed, without dropout."""
    torch.manual_seed(0)
    config = package.VisualBertConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        intermediate_size=HIDDEN, visual_embedding_dim=REGION_WIDTH, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=0,
    )  # fmt: skip
    return package.VisualBertForPreTraining(config).train()


def parameters(model: nn.Module) -> float:
    """In millions."""
    return sum(p.numel() for p in model.parameters()) / 1e6


def autocast(precision: str) -> AbstractContextManager[None]:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def their_step(model: Any, precision: str, fused: bool = False) -> Step:
    """A step as its documentation writes it, with the same optimizer settings as ours."""
    groups = [
        {"params": list(group.parameters.values()), "weight_decay": DECAY if group.decay else 0.0}
        for group in decay_groups(model)
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), eps=1e-6, fused=fused)

    def step(data: Data) -> float:
        optimizer.zero_grad(set_to_none=True)
        with autocast(precision):
            loss = model(**_inputs(data)).loss
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _inputs(data: Data) -> dict[str, Tensor]:
    shape_BR = data.features_BRF.shape[:2]
    return {
        "input_ids": data.tokens_BT,
        "attention_mask": torch.ones_like(data.tokens_BT),
        "visual_embeds": data.features_BRF,
        "visual_attention_mask": torch.ones(shape_BR, dtype=torch.int64),
        "labels": torch.cat([data.labels_BT, torch.full(shape_BR, IGNORED)], dim=1),
        "sentence_image_labels": (~data.matches_B).long(),
    }


def our_step(state: dict[str, Tensor], precision: str) -> Step:
    """The task's own losses, on features that are made already."""
    text = BertConfig(VOCABULARY, 512, WIDTH, DEPTH, HEADS, HIDDEN)
    processor = RegionTextProcessor(
        RegionTextConfig(text=TextPreprocessing(WORDS)), Tokenizer.fit(["a caption"], 300, mask=True)
    )
    task = visualbert.VisualBertTask(visualbert.Config(text, REGION_WIDTH), processor).train()
    public = {name: rows for name, rows in state.items() if not name.startswith("cls.predictions.decoder.")}
    task.model.load_state_dict(read(transformers_visualbert(DEPTH), public, Path("transformers")))
    optimizer = AdamWConfig(lr=LR, beta1=0.9, beta2=0.98, eps=1e-6, weight_decay=DECAY).build(task.trainable()["main"])

    def step(data: Data) -> float:
        optimizer.zero_grad(set_to_none=True)
        size, regions = data.features_BRF.shape[:2]
        seen = Seen(data.features_BRF, torch.full((size,), regions))
        lengths_B = torch.full((size,), data.tokens_BT.shape[1])
        with autocast(precision):
            words = MaskedWords(data.tokens_BT, data.labels_BT)
            loss = total(task.losses_of(words, lengths_B, seen, data.matches_B))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step
