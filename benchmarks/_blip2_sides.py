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

from _conversation_steps import Step, library_step, trainer_step
from _llama_sides import VOCABULARY, Size
from _llava_sides import END, PAD, PICTURE, START
from _llava_sides import Sizes as TowerSizes
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.pretrained_backbone import blip2_lm
from diptych.models.pretrained_backbone._prefixed import Trained

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
    """Their model's; the bridge alone is trained."""
    bridge = ("qformer.", "query_tokens", "language_projection.")
    return library_step(model, lambda name: name.removeprefix("model.").startswith(bridge))


def our_step(model: blip2_lm.Blip2LmPredictor, packed: int = 0) -> Step:
    """Ours."""
    module = copy.deepcopy(model.module)
    task = blip2_lm.Blip2LmTask(model.config, model.processor, module.tower, module.language, Trained(), packed)
    task.model.connector.load_state_dict(module.connector.state_dict())
    return trainer_step(task)
