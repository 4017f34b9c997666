"""One BLIP-2 on both sides: transformers' Blip2ForConditionalGeneration, and ours from the folder it writes."""

from __future__ import annotations

import copy
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import tokenizers
import torch

from _llama_sides import VOCABULARY, Size
from _llava_sides import END, OPTIMIZER, PAD, PICTURE, START, Step
from _llava_sides import Sizes as TowerSizes
from diptych.core.task import decay_groups
from diptych.data.batches.conversations import ConversationBatch
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.pretrained_backbone import blip2_lm
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.training.backward import backward

_NAMES = ("<s>", "</s>", "<pad>")


@dataclass(frozen=True)
class Sizes(TowerSizes):
    """Of tower, Q-Former and language model.

    Attributes:
        queries: of the Q-Former.
    """

    bridge: Size
    queries: int

    @property
    def slots(self) -> int:
        """Tokens of a picture."""
        return self.queries


def their_model(package: ModuleType, sizes: Sizes) -> Any:
    """With fresh weights, the same at every call; no dropout, which would make the losses differ."""
    config = package.Blip2Config(
        vision_config={**_plain(sizes.vision), "image_size": sizes.side, "patch_size": sizes.patch},
        qformer_config={
            **_plain(sizes.bridge), "encoder_hidden_size": sizes.vision.width, "vocab_size": 4,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        text_config={
            **_plain(sizes.language), "model_type": "llama", "vocab_size": VOCABULARY,
            "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "bos_token_id": START, "eos_token_id": END,
            "pad_token_id": PAD, "tie_word_embeddings": False,
        },
        num_query_tokens=sizes.queries, image_token_index=PICTURE,
    )  # fmt: skip
    torch.manual_seed(0)
    return package.Blip2ForConditionalGeneration(config).eval()


def _plain(size: Size) -> dict[str, int]:
    return {
        "hidden_size": size.width, "num_hidden_layers": size.depth, "num_attention_heads": size.heads,
        "intermediate_size": size.hidden,
    }  # fmt: skip


def our_model(theirs: Any, sizes: Sizes) -> blip2_lm.Blip2LmPredictor:
    """Ours, from a folder that theirs is written to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs.save_pretrained(folder)
        vocabulary = {name: index for index, name in enumerate(_NAMES)}
        vocabulary |= {str(index): index for index in range(len(_NAMES), VOCABULARY)}
        backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="4"))
        backend.add_special_tokens(list(_NAMES))
        Tokenizer(backend, START, END, PAD).write(folder / "tokenizer.json")
        plain = {"size": {"height": sizes.side, "width": sizes.side}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(plain), encoding="utf-8")
        return blip2_lm.weights_from(folder)


def their_step(model: Any) -> Step:
    """With our optimizer and its fused kernel, and the loss that the model returns; the bridge alone is trained."""
    model = copy.deepcopy(model).train()
    for name, parameter in model.named_parameters():
        bridge = name.removeprefix("model.").startswith(("qformer.", "query_tokens", "language_projection."))
        parameter.requires_grad_(bridge)
    optimizer = OPTIMIZER.build(decay_groups(model))

    def step(batch: ConversationBatch) -> float:
        optimizer.zero_grad()
        inside_BT = torch.arange(batch.tokens_BT.shape[1]) < batch.lengths_B[:, None]
        loss = model(
            pixel_values=batch.pixels_NCHW, input_ids=batch.tokens_BT, attention_mask=inside_BT.long(),
            labels=batch.labels_BT,
        ).loss  # fmt: skip
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def our_step(model: blip2_lm.Blip2LmPredictor, packed: int = 0) -> Step:
    """As diptych's trainer."""
    module = copy.deepcopy(model.module)
    task = blip2_lm.Blip2LmTask(model.config, model.processor, module.tower, module.language, Trained(), packed)
    task.model.connector.load_state_dict(module.connector.state_dict())
    task.train()
    (groups,) = task.trainable().values()
    optimizer = OPTIMIZER.build(groups)

    def step(batch: ConversationBatch) -> float:
        optimizer.zero_grad(set_to_none=True)
        losses = backward(task, [batch], seed=(0,))
        optimizer.step()
        task.after_step()
        return float(losses["loss"])

    return step
