"""A random LLaVA of `transformers` at its smallest, for contract tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from diptych.core.sample import Sample
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import transformers_for
from diptych.models.pretrained_backbone._public_files import Public

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
_SIDE, _PATCH = 32, 16


def tiny_llava(samples: Sequence[Sample]) -> Public:
    """With a tokenizer that is fitted to the samples.

    Raises:
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for("a public model")
    said = [turn.text for sample in samples for turn in sample.turns]
    words = Tokenizer.fit([*said, *(text for sample in samples for text in sample.texts), "user: assistant:"], 400)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words.backend, eos_token="<end>", pad_token="<pad>", additional_special_tokens=["<image>"]
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=_SIDE,
        patch_size=_PATCH,
    )  # fmt: skip
    language = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )  # fmt: skip
    config: Any = transformers.LlavaConfig(
        vision_config=vision, text_config=language, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )  # fmt: skip
    module = transformers.LlavaForConditionalGeneration(config).to(torch.float32).eval()
    module.generation_config.eos_token_id = tokenizer.eos_token_id
    size = {"height": _SIDE, "width": _SIDE}
    pictures = transformers.CLIPImageProcessorPil(size=size, do_center_crop=False)
    processor = transformers.LlavaProcessor(
        pictures, tokenizer, patch_size=_PATCH, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip
    return Public(module, processor)
