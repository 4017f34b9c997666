"""Folders of public vision-language models at their smallest, every parameter random, as the library saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers
from tiny_public import randomise

from diptych.core.visual import Image
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.pretrained_backbone._public_files import of_pictures

TEMPLATE = (
    "{%% for message in messages %%}{{ message['role'] }}: {%% for part in message['content'] %%}"
    "{%% if part['type'] == 'image' %%}%s{%% else %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}%s\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}assistant: {%% endif %%}"
)
SAID = ["what is this? a red circle user: assistant: the small blue star and two green squares system:"]
SIDE, PATCH = 28, 14
_VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE,
    "patch_size": PATCH,
}  # fmt: skip


def picture(seed: int, height: int = 30, width: int = 40) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image(pixels_HWC=pixels, name=f"noise {seed}")


def words(*control: str) -> Any:
    """A fitted tokenizer with control tokens of a model's own."""
    fitted = Tokenizer.fit(SAID, 300)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fitted.backend, bos_token="<start>", eos_token="<end>", pad_token="<pad>",
        additional_special_tokens=list(control),
    )  # fmt: skip


def sizes(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """Of a language model."""
    return {
        "vocab_size": len(tokenizer) + 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, **more,
    }  # fmt: skip


def saved(module: Any, processor: Any, folder: Path) -> Any:
    """The model in float64, and its folder in float32."""
    randomise(module)
    with torch.no_grad():  # a picture's mark is never said: by hand, it would be read as a picture's place
        if module.lm_head.weight is not module.get_input_embeddings().weight:
            module.lm_head.weight[processor.image_token_id] = 0
    module.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    module.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    module.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return module.double()


def llava(folder: Path, end: str = "<end>", layer: int | list[int] = -2) -> Any:
    tokenizer = words("<image>")
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        text_config=transformers.LlamaConfig(**sizes(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=layer,
    )  # fmt: skip
    pictures = transformers.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE)
    processor = transformers.LlavaProcessor(
        pictures, tokenizer, patch_size=PATCH, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=TEMPLATE % ("<image>", end),
    )  # fmt: skip
    return saved(transformers.LlavaForConditionalGeneration(config), processor, folder)


def llava_next(folder: Path) -> Any:
    tokenizer = words("<image>")
    tiles = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        text_config=transformers.LlamaConfig(**sizes(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_grid_pinpoints=tiles,
    )  # fmt: skip
    pictures = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=SIDE, image_grid_pinpoints=tiles
    )
    processor = transformers.LlavaNextProcessor(
        pictures, tokenizer, patch_size=PATCH, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=TEMPLATE % ("<image>", "<end>"),
    )  # fmt: skip
    return saved(transformers.LlavaNextForConditionalGeneration(config), processor, folder)


def idefics2(folder: Path) -> Any:
    tokenizer = words()
    pictures = transformers.Idefics2ImageProcessorPil(
        size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE}, do_image_splitting=False
    )
    processor = transformers.Idefics2Processor(
        pictures, tokenizer, image_seq_len=3, chat_template=TEMPLATE % ("<image>", "<end_of_utterance>")
    )
    text = transformers.MistralConfig(**sizes(tokenizer))
    perceiver = {
        "hidden_size": 32, "resampler_n_latents": 3, "resampler_depth": 1, "resampler_n_heads": 2,
        "resampler_head_dim": 8, "num_key_value_heads": 2,
    }  # fmt: skip
    config = transformers.Idefics2Config(
        vision_config=_VISION | {"image_size": 2 * SIDE}, text_config=text, perceiver_config=perceiver,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return _with_two_ends(
        saved(transformers.Idefics2ForConditionalGeneration(config), processor, folder), processor, folder
    )


def _with_two_ends(module: Any, processor: Any, folder: Path) -> Any:
    """As these models say it themselves: an answer ends with a token that is not the tokenizer's last."""
    words = processor.tokenizer
    module.generation_config.eos_token_id = [words.eos_token_id, words.convert_tokens_to_ids("<end_of_utterance>")]
    module.generation_config.save_pretrained(folder)
    return module


def idefics3(folder: Path) -> Any:
    tokenizer = words()
    pictures = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = transformers.Idefics3Processor(
        pictures, tokenizer, image_seq_len=1, chat_template=TEMPLATE % ("<image>", "<end_of_utterance>")
    )
    text = transformers.LlamaConfig(**sizes(tokenizer))
    config = transformers.Idefics3Config(
        vision_config=_VISION, text_config=text, scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return _with_two_ends(
        saved(transformers.Idefics3ForConditionalGeneration(config), processor, folder), processor, folder
    )


def paligemma(folder: Path) -> Any:
    tokenizer = words()
    pictures = transformers.SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    pictures.image_seq_length = 4
    processor = transformers.PaliGemmaProcessor(pictures, tokenizer)
    text = transformers.GemmaConfig(**sizes(tokenizer, vocab_size=len(tokenizer), head_dim=8))
    config = transformers.PaliGemmaConfig(
        vision_config=transformers.SiglipVisionConfig(**_VISION, projection_dim=32), text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), projection_dim=32, hidden_size=32,
        vocab_size=len(tokenizer),
    )  # fmt: skip
    return saved(transformers.PaliGemmaForConditionalGeneration(config), processor, folder)


def qwen2_vl(folder: Path) -> Any:
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    return _qwen(folder, transformers.Qwen2VLConfig, transformers.Qwen2VLForConditionalGeneration, vision)


def qwen2_5_vl(folder: Path) -> Any:
    vision = {
        "depth": 2, "hidden_size": 16, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 24,
        "window_size": 56, "fullatt_block_indexes": [1],
    }  # fmt: skip
    return _qwen(folder, transformers.Qwen2_5_VLConfig, transformers.Qwen2_5_VLForConditionalGeneration, vision)


def _qwen(folder: Path, configuration: Any, model: Any, vision: dict[str, Any]) -> Any:
    places = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
    tokenizer = words(*places, "<|object_ref_start|>", "<|object_ref_end|>")
    ids = dict(zip(("vision_start_token_id", "image_token_id", "vision_end_token_id", "video_token_id"),
                   tokenizer.convert_tokens_to_ids(list(places)), strict=True))  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    text = sizes(tokenizer, rope_parameters=rope)
    config = configuration(vision_config=vision, text_config=text, **ids)
    pictures = transformers.Qwen2VLImageProcessorPil(min_pixels=SIDE * SIDE, max_pixels=4 * SIDE * SIDE)
    kind = of_pictures(transformers.PROCESSOR_MAPPING[configuration])
    processor = kind(pictures, tokenizer, chat_template=TEMPLATE % ("".join(places[:3]), "<end>"))
    return saved(model(config), processor, folder)


ALL: dict[str, Callable[[Path], Any]] = {
    "llava": llava, "llava_next": llava_next, "idefics2": idefics2, "idefics3": idefics3, "paligemma": paligemma,
    "qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl,
}  # fmt: skip


_QWEN = "<|vision_start|><|image_pad|><|vision_end|>"
SLOTS = {"qwen2_vl": _QWEN, "qwen2_5_vl": _QWEN}
ENDS = {"idefics2": "<end_of_utterance>", "idefics3": "<end_of_utterance>"}


def read_by_hand(name: str, processor: Any, image: Image, asked: str, said: str | None) -> dict[str, torch.Tensor]:
    """What the model is given, put together without the code under test; None to stop where the answer begins."""
    assert image.pixels_HWC is not None
    shown = PIL.Image.fromarray(image.pixels_HWC)
    if name == "paligemma":
        more = {} if said is None else {"suffix": [said]}
        found = processor(text=[f"<image>{asked}"], images=[[shown]], return_tensors="pt", **more)
    else:
        end = ENDS.get(name, "<end>")
        answer = "" if said is None else f"{said}{end}"
        text = f"user: {SLOTS.get(name, '<image>')}{asked}{end}\nassistant: {answer}"
        found = processor(text=[text], images=[[shown]], return_tensors="pt")
    return {key: one.double() if one.is_floating_point() else one for key, one in found.items() if key != "labels"}


def by_hand(theirs: Any, inputs: dict[str, torch.Tensor], begin: int) -> float:
    """log p of all tokens from `begin` on, by one whole forward pass of the library's model."""
    chances_TV = theirs(**inputs).logits[0].log_softmax(-1)
    tokens = inputs["input_ids"][0].tolist()
    return sum(float(chances_TV[place - 1, tokens[place]]) for place in range(begin, len(tokens)))


def greedy_by_hand(theirs: Any, inputs: dict[str, torch.Tensor], ends: set[int], most: int) -> list[int]:
    """The likeliest token each time, all read again from the beginning."""
    inputs, written = dict(inputs), list[int]()
    while len(written) < most:
        token = int(theirs(**inputs).logits[0, -1].argmax())
        if token in ends:
            break
        written.append(token)
        for name, value in (
            ("input_ids", token),
            ("attention_mask", 1),
            ("token_type_ids", 1),
            ("mm_token_type_ids", 0),
        ):
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.tensor([[value]])], dim=1)
    return written
