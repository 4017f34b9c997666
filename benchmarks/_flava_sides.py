"""One FLAVA on both sides: transformers' FlavaForPreTraining as shipped, and ours with the same weights and batches.

38 M parameters: image and text encoders of 6 layers of width 384, a multimodal one of 3, a vocabulary of 8,192 words
and 1,024 codes, which both sides are given. Pairs of which a fifth do not match; all four terms of pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor, nn

from _clip_sides import autocast
from diptych.core.task import decay_groups
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, TextPreprocessing
from diptych.data.batches.mixed_pairs import Kind, Masks, MixedBatch, MixedPairsProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _weight_tables as tables
from diptych.models.masked import _flava_public, flava
from diptych.models.masked._flava_codes import GivenCodes
from diptych.models.masked._flava_encoders import FusionConfig
from diptych.models.masked._flava_table import flava_entries
from diptych.training.backward import backward
from diptych.training.optimizer import AdamWConfig

SIZE, PATCH, CONTEXT, WORDS, CODES, WIDTH = 112, 16, 64, 8192, 1024, 384
DEPTHS = (6, 6, 3)
PATCHES = (SIZE // PATCH) ** 2
START, END, PAD, MASK = range(4)
IGNORED = -100
UNREACHED = ("mim_head", "mlm_head", *(f"flava.{side}_model.pooler" for side in ("image", "text", "multimodal")))
"""What no term of pairs reaches."""
OPTIMIZER = AdamWConfig(lr=1e-4, weight_decay=0.0)
"""Without decay: class tokens are vectors on one side and matrices of one row on the other."""

Step = Callable[[MixedBatch], float]


def batches(count: int, size: int) -> list[MixedBatch]:
    """Captions of 8 to 40 tokens, 13 on average and about 30 in the longest of 64.

    Hidden are 19 of 49 patches, and about 15 % of the words.
    """
    generator = torch.Generator().manual_seed(0)
    return [_batch(size, generator) for _ in range(count)]


def _batch(size: int, generator: torch.Generator) -> MixedBatch:
    lengths_B = (8 + torch.empty(size).exponential_(1 / 5, generator=generator)).long().clamp(max=40)
    longest = int(lengths_B.max())
    places_T = torch.arange(longest)
    tokens_BT = torch.randint(4, WORDS, (size, longest), generator=generator)
    tokens_BT[:, 0] = START
    tokens_BT[torch.arange(size), lengths_B - 1] = END
    tokens_BT[places_T >= lengths_B[:, None]] = PAD
    inside_BT = (places_T > 0) & (places_T < lengths_B[:, None] - 1)
    asked_BT = (torch.rand(size, longest, generator=generator) < 0.15) & inside_BT
    asked_BT[:, 1] = True
    hidden_BP = torch.rand(size, PATCHES, generator=generator).argsort(1) < 19
    matched = max(size * 4 // 5, 1)
    return MixedBatch(
        keys=tuple(map(str, range(size))),
        pixels_BCHW=torch.randn(size, 3, SIZE, SIZE, generator=generator),
        tokens_BT=tokens_BT,
        lengths_B=lengths_B,
        seeds=(0,) * size,
        kinds=(Kind.MATCHED,) * matched + (Kind.MISMATCHED,) * (size - matched),
        hidden_BP=hidden_BP,
        masked_BT=torch.where(asked_BT, MASK, tokens_BT),
        labels_BT=torch.where(asked_BT, tokens_BT, IGNORED),
        asked=tuple((19, int(words)) for words in asked_BT.sum(1)),
        codes_BP=torch.randint(CODES, (size, PATCHES), generator=generator),
    )


def their_model(package: Any) -> Any:
    """FlavaForPreTraining with fresh weights, the same at every call."""
    sizes = {"hidden_size": WIDTH, "num_attention_heads": 6, "intermediate_size": 4 * WIDTH, "layer_norm_eps": 1e-6}
    image, text, joint = ({**sizes, "num_hidden_layers": depth} for depth in DEPTHS)
    config = package.FlavaConfig(
        image_config={**image, "image_size": SIZE, "patch_size": PATCH, "vocab_size": CODES},
        text_config={**text, "vocab_size": WORDS, "max_position_embeddings": CONTEXT, "pad_token_id": PAD},
        multimodal_config=joint,
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        init_codebook=False,
    )
    torch.manual_seed(0)
    return package.FlavaForPreTraining(config)


def our_task(state: dict[str, Tensor]) -> flava.FlavaTask:
    """Ours with their weights; no row is alone, so the heads of one side are left out on both."""
    image, text, joint = DEPTHS
    config = flava.Config(
        VisionConfig(SIZE, PATCH, WIDTH, image, 6, 4 * WIDTH),
        TextConfig(WORDS, CONTEXT, WIDTH, text, 6, 4 * WIDTH, causal=False, eps=1e-6),
        FusionConfig(WIDTH, joint, 6, 4 * WIDTH, eps=1e-6),
        WIDTH,
        GivenCodes(CODES),
    )
    settings = ImageTextConfig(ImagePreprocessing(SIZE, views=None), TextPreprocessing(CONTEXT))
    processor = MixedPairsProcessor(settings, _tokenizer(), SIZE // PATCH, Masks(mismatched=0), None)
    weights = flava.Weights(mim=0, mlm=0)
    task = flava.FlavaTask(config, processor, weights)
    simple = _flava_public.simplified(dict(state), Path("transformers"))
    task.model.load_state_dict(tables.read(flava_entries(*DEPTHS, 0), simple, Path("transformers")))
    return task


def _tokenizer() -> Tokenizer:
    vocabulary = {str(index): index for index in range(WORDS)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="4"))
    return Tokenizer(backend, START, END, PAD, MASK)


def their_step(model: nn.Module, precision: str) -> Step:
    """With our optimizer and its fused kernel, and the gradient of the loss that the model itself returns."""
    model.train()
    for name, parameter in model.named_parameters():
        if name.startswith(UNREACHED) or name.endswith("token_type_embeddings.weight"):
            parameter.requires_grad_(False)  # of segments there is one, whose embedding is in our positions
    optimizer = OPTIMIZER.build(decay_groups(model))
    context = autocast(precision)

    def step(batch: MixedBatch) -> float:
        optimizer.zero_grad()
        with context():
            loss = model(**their_inputs(batch)).loss
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def their_inputs(batch: MixedBatch) -> dict[str, Tensor]:
    """What FlavaForPreTraining takes; labels are copies, because it writes to them."""
    assert batch.codes_BP is not None
    inside_BT = torch.arange(batch.tokens_BT.shape[1]) < batch.lengths_B[:, None]
    return {
        "input_ids": batch.tokens_BT,
        "input_ids_masked": batch.masked_BT,
        "pixel_values": batch.pixels_BCHW,
        "attention_mask": inside_BT.long(),
        "bool_masked_pos": batch.hidden_BP,
        "mlm_labels": batch.labels_BT.clone(),
        "mim_labels": batch.codes_BP.clone(),
        "itm_labels": torch.tensor([int(kind is Kind.MATCHED) for kind in batch.kinds]),
    }


def our_step(task: flava.FlavaTask, precision: str) -> Step:
    """As diptych's trainer."""
    (groups,) = task.trainable().values()
    optimizer = OPTIMIZER.build(groups)
    context = autocast(precision)

    def step(batch: MixedBatch) -> float:
        optimizer.zero_grad(set_to_none=True)
        losses = backward(task, [batch], autocast=context, seed=(0,))
        optimizer.step()
        task.after_step()
        return float(losses["loss"])

    return step


def parameters_of(task: flava.FlavaTask) -> int:
    """Parameters of the model."""
    return sum(p.numel() for p in task.parameters())
