"""A tiny VisualBertForPreTraining of `transformers` with every parameter random, and inputs for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
import torch
import transformers
from tiny_public import randomise
from tokenizers import models, pre_tokenizers, processors
from torch import Tensor

HF: Any = transformers
WORDS = ("a", "red", "blue", "small", "dog", "cat", "on", "the", "beach", "under", "two", "house")
CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
VOCABULARY = len(WORDS) + len(CONTROL)
REGION_WIDTH, CONTEXT = 11, 24


def write_tokenizer(folder: Path) -> None:
    """Whole words, with BERT's control tokens at the first ids."""
    vocabulary = {name: index for index, name in enumerate([*CONTROL, *WORDS])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    backend.save(str(folder / "tokenizer.json"))
    named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named}))


def tiny_visualbert(folder: Path, **more: Any) -> Any:
    """The model in float64 and evaluation mode, and its folder in float32."""
    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 40, "max_position_embeddings": CONTEXT, "visual_embedding_dim": REGION_WIDTH,
        "pad_token_id": PAD, "bos_token_id": CLS, "eos_token_id": SEP,
    }  # fmt: skip
    model = HF.VisualBertForPreTraining(HF.VisualBertConfig(**sizes | more)).eval()
    randomise(model)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model.double()


class Inputs(NamedTuple):
    """Texts of three lengths and pictures of three numbers of regions, all padded."""

    tokens_BT: Tensor
    lengths_B: Tensor
    types_BT: Tensor
    features_BRF: Tensor
    counts_B: Tensor
    labels_BT: Tensor
    mismatched_B: Tensor

    def theirs(self) -> dict[str, Tensor]:
        """As `transformers` takes them; labels cover the regions too."""
        inside_BT = (torch.arange(self.tokens_BT.shape[1]) < self.lengths_B[:, None]).long()
        shown_BR = (torch.arange(self.features_BRF.shape[1]) < self.counts_B[:, None]).long()
        return {
            "input_ids": self.tokens_BT,
            "attention_mask": inside_BT,
            "token_type_ids": self.types_BT,
            "visual_embeds": self.features_BRF,
            "visual_attention_mask": shown_BR,
        }

    def labels(self) -> Tensor:
        """Of words and regions, as `transformers` wants them."""
        regions_BR = torch.full(self.features_BRF.shape[:2], -100)
        return torch.cat([self.labels_BT, regions_BR], dim=1)


def inputs(batch: int = 3) -> Inputs:
    """Every label is of a real word."""
    generator = torch.Generator().manual_seed(5)
    tokens_BT = torch.randint(len(CONTROL), VOCABULARY, (3, 9), generator=generator)
    lengths_B = torch.tensor([9, 4, 6])
    tokens_BT[:, 0] = CLS
    inside_BT = torch.arange(9) < lengths_B[:, None]
    labels_BT = torch.full_like(tokens_BT, -100)
    for row, place in ((0, 2), (0, 5), (1, 1), (2, 3), (2, 4), (2, 1)):
        labels_BT[row, place] = tokens_BT[row, place]
        tokens_BT[row, place] = MASK
    types_BT = (torch.arange(9) >= 4).long().expand(3, -1)
    features_BRF = torch.randn(3, 5, REGION_WIDTH, generator=generator, dtype=torch.float64)
    found = Inputs(
        tokens_BT.masked_fill(~inside_BT, PAD), lengths_B, types_BT, features_BRF, torch.tensor([5, 2, 3]), labels_BT,
        torch.tensor([0, 1, 0]),
    )  # fmt: skip
    return Inputs(*(part[:batch] for part in found))
