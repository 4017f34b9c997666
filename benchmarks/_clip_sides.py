"""One CLIP on both sides: open_clip's as shipped, and ours with the same weights, captions and optimizer.

51.7 M parameters: a ViT of 12 layers of width 384 on 112 pixels, a text tower of 6 layers, a vocabulary of 49,408.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diptych.core.task import GlobalTask, decay_groups
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _open_clip_tables as tables
from diptych.models._weight_tables import read
from diptych.models.contrastive import clip
from diptych.training.backward import backward
from diptych.training.optimizer import AdamWConfig

SIZE, CONTEXT, VOCABULARY, START, END = 112, 77, 49408, 49406, 49407
OPTIMIZER = AdamWConfig(lr=1e-4)


@dataclass(frozen=True)
class Pairs:
    """Pictures and captions, as both sides want them."""

    image_BCHW: Tensor
    padded_BT: Tensor
    lengths_B: Tensor

    def cut(self) -> ImageTextBatch:
        """Ours: tokens up to the longest caption of the batch, which is what our processor makes."""
        return self._batch(self.padded_BT[:, : int(self.lengths_B.max())])

    def whole(self) -> ImageTextBatch:
        """Ours for towers that read constant padding."""
        return self._batch(self.padded_BT)

    def _batch(self, tokens_BT: Tensor) -> ImageTextBatch:
        keys = tuple(map(str, range(len(self.lengths_B))))
        return ImageTextBatch(keys, self.image_BCHW, tokens_BT, self.lengths_B, (0,) * len(keys))


def batches(count: int, size: int, long_captions: int = 0, side: int = SIZE) -> list[Pairs]:
    """Captions of 8 to 20 words, which are 10 to 26 tokens with start and end; some may have 75 instead."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        lengths_B = torch.randint(10, 27, (size,), generator=generator)
        lengths_B[:long_captions] = CONTEXT
        tokens_BT = torch.randint(1, START, (size, CONTEXT), generator=generator)
        tokens_BT[:, 0] = START
        tokens_BT[torch.arange(size), lengths_B - 1] = END
        tokens_BT[torch.arange(CONTEXT) >= lengths_B[:, None]] = 0
        found.append(Pairs(torch.randn(size, 3, side, side, generator=generator), tokens_BT, lengths_B))
    return found


def autocast(precision: str) -> Callable[[], AbstractContextManager[Any]]:
    return (lambda: torch.autocast("cpu", torch.bfloat16)) if precision == "bf16" else nullcontext


Step = Callable[[Pairs], float]


def open_clip_step(model: nn.Module, package: Any, precision: str, compiled: bool, fused: bool = False) -> Step:
    """As open_clip_train: AdamW without decay of gains, biases and scalars; its loss; the clamp of the scale."""
    model.train()
    siglip = getattr(model, "logit_bias", None) is not None
    loss_of = package.loss.SigLipLoss() if siglip else package.loss.ClipLoss()
    groups = [
        {"params": list(group.parameters.values()), "weight_decay": OPTIMIZER.weight_decay if group.decay else 0.0}
        for group in decay_groups(model)
    ]
    betas = (OPTIMIZER.beta1, OPTIMIZER.beta2)
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER.lr, betas=betas, eps=OPTIMIZER.eps, fused=fused or None)
    net = torch.compile(model) if compiled else model
    context = autocast(precision)

    def step(pairs: Pairs) -> float:
        optimizer.zero_grad()
        with context():
            found = net(pairs.image_BCHW, pairs.padded_BT)
            loss = loss_of(*found[: 4 if siglip else 3])
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.605170185988092)
        return float(loss.detach())

    return step


def our_step(state: dict[str, Tensor], precision: str, compiled: bool) -> Step:
    """As diptych's trainer."""
    return task_step(our_task(state), precision, compiled)


def task_step(
    task: GlobalTask[ImageTextBatch], precision: str, compiled: bool = False, whole_rows: bool = False
) -> Step:
    """A step of any of our contrastive tasks; captions cut to the longest of the batch, or whole rows."""
    (groups,) = task.trainable().values()
    optimizer = OPTIMIZER.build(groups)
    if compiled:
        for child in task.children():
            child.compile()
    context = autocast(precision)

    def step(pairs: Pairs) -> float:
        optimizer.zero_grad(set_to_none=True)
        batch = pairs.whole() if whole_rows else pairs.cut()
        losses = backward(task, [batch], autocast=context, seed=(0,))
        optimizer.step()
        task.after_step()
        return float(losses["loss"])

    return step


def our_task(state: dict[str, Tensor] | None = None) -> clip.ClipTask:
    """Our CLIP with open_clip's weights, or fresh ones."""
    vision = VisionConfig(SIZE, 16, 384, 12, 6, 1536, pre_norm=True, patch_bias=False, eps=1e-5)
    text = TextConfig(VOCABULARY, CONTEXT, 384, 6, 6, 1536)
    settings = ImageTextConfig(ImagePreprocessing(SIZE), TextPreprocessing(CONTEXT))
    processor = ImageTextProcessor(settings, Tokenizer.fit(["a caption"], 300))
    task = clip.ClipTask(clip.Config(vision, text, 512), processor)
    if state is not None:
        task.model.load_state_dict(read(tables.open_clip_clip(12, 6), state, Path("open_clip")))
    return task.train()


def open_clip_model(package: Any) -> Any:
    """Its CLIP, from one seed."""
    torch.manual_seed(0)
    return package.model.CLIP(
        embed_dim=512,
        vision_cfg={"image_size": SIZE, "layers": 12, "width": 384, "head_width": 64, "patch_size": 16},
        text_cfg={"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 384, "heads": 6, "layers": 6},
    )


def gigaflops(step: Step, pairs: Pairs) -> float:
    """Of the matrix products and attention of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step(pairs)
    return counter.get_total_flops() / 1e9


def trajectory(step: Step, data: Sequence[Pairs]) -> list[float]:
    """The loss before each of several updates."""
    return [step(pairs) for pairs in data]
