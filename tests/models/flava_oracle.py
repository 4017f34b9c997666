"""A tiny FlavaForPreTraining of `transformers` with every parameter random, and batches for both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tiny_public import CAPTIONS, IMAGE_SIZE, TEXT, VISION, WORDS, pixels, randomise, write_preprocessor
from tokenizers import models, pre_tokenizers, processors
from torch import Tensor

from diptych.data.batches.mixed_pairs import Kind, MixedBatch

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
PAD, CLS, SEP, MASK_ID = range(4)
CODES, PATCHES = 11, (IMAGE_SIZE // 4) ** 2
IGNORED = -100


def write_bert_tokenizer(folder: Path) -> None:
    """Whole words as tokens, with BERT's control tokens."""
    vocabulary = {name: index for index, name in enumerate([*SPECIAL, *WORDS])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="!"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    backend.save(str(folder / "tokenizer.json"))
    named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(named))


def tiny_flava(folder: Path, codebook: bool = True, **more: Any) -> Any:
    """A FlavaForPreTraining in float64 and evaluation mode, and its folder in float32."""
    width = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40}
    sizes = {
        "image_config": {**VISION, **width, "num_hidden_layers": 3, "vocab_size": CODES},
        "text_config": {**TEXT, **width, "vocab_size": len(WORDS) + 4, "num_hidden_layers": 2},
        "multimodal_config": {**width, "num_hidden_layers": 2},
        "image_codebook_config": {"hidden_size": 4, "num_blocks_per_group": 2, "vocab_size": CODES},
    }
    config = transformers.FlavaConfig(**sizes, hidden_size=24, projection_dim=18, init_codebook=codebook, **more)
    write_bert_tokenizer(folder)
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    write_preprocessor(folder, square, do_center_crop=True, crop_size=square)
    model = transformers.FlavaForPreTraining(config)
    model.eval()
    randomise(model)
    with torch.no_grad():  # sums of positions and segments that float32 holds exactly
        words = model.flava.text_model.embeddings
        for embedding in (words.position_embeddings, words.token_type_embeddings):
            embedding.weight.copy_((embedding.weight * 1024).round() / 1024)
    model.save_pretrained(folder)
    return model.double()


def mixed_batch(kinds: tuple[Kind, ...], tokens_BT: Tensor, lengths_B: Tensor, seed: int = 5) -> MixedBatch:
    """Rows of these kinds with random masks, words and codes."""
    rows, generator = len(kinds), torch.Generator().manual_seed(seed)
    hidden_BP = torch.rand(rows, PATCHES, generator=generator) < 0.4
    inside = torch.arange(tokens_BT.shape[1]) < lengths_B[:, None] - 1
    asked = (torch.rand(tokens_BT.shape, generator=generator) < 0.5) & inside
    asked[:, 0], asked[:, 1] = False, True
    labels_BT = torch.where(asked, tokens_BT, IGNORED)
    counts = zip(hidden_BP.sum(1).tolist(), asked.sum(1).tolist(), strict=True)
    return MixedBatch(
        keys=tuple(map(str, range(rows))),
        pixels_BCHW=pixels(rows),
        tokens_BT=tokens_BT,
        lengths_B=lengths_B,
        seeds=(0,) * rows,
        kinds=kinds,
        hidden_BP=hidden_BP,
        masked_BT=torch.where(asked, MASK_ID, tokens_BT),
        labels_BT=labels_BT,
        asked=tuple(counts),
        codes_BP=torch.randint(CODES, (rows, PATCHES), generator=generator),
    )


def captions(count: int) -> list[str]:
    """Of different lengths."""
    return [CAPTIONS[index % len(CAPTIONS)] for index in range(count)]


def their_inputs(batch: MixedBatch, rows: list[int]) -> dict[str, Tensor]:
    """What FlavaForPreTraining is given of some rows, both sides; it overwrites labels, so these are copies."""
    longest = int(batch.lengths_B[rows].max())
    inside = torch.arange(longest) < batch.lengths_B[rows][:, None]
    assert batch.codes_BP is not None
    return {
        "input_ids": batch.tokens_BT[rows, :longest],
        "input_ids_masked": batch.masked_BT[rows, :longest],
        "pixel_values": batch.pixels_BCHW[rows],
        "attention_mask": inside.long(),
        "bool_masked_pos": batch.hidden_BP[rows],
        "mlm_labels": batch.labels_BT[rows, :longest].clone(),
        "mim_labels": batch.codes_BP[rows].clone(),
        "itm_labels": torch.tensor([int(batch.kinds[row] is Kind.MATCHED) for row in rows]),
    }
