"""LLaVA written as transformers' LlavaForConditionalGeneration folder.

The weights go through the library's own class, which knows what it calls them. A token `<image>` stands for a picture
there: where the tokenizer has none, one is added behind all others, with the padding's row in the head, so that it is
as unlikely to be said as that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor, nn

from diptych.capabilities.card import CARD, begun
from diptych.core.errors import ConfigError
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.words.chat import IMAGE, JinjaTemplate, PlainTemplate, Template
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import quiet, transformers_for
from diptych.layers.connectors import ConnectorConfig
from diptych.models._public_folder import write_json, write_preprocessing
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._llama import Llama, described, public_state
from diptych.models.pretrained_backbone._llava_folder import STRATEGIES
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefixed import Prefixed
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm

_CLASS = "LlavaForConditionalGeneration"
_CONNECTOR = {"up": "linear_1", "down": "linear_2"}
_USAGE = """
```python
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
model = LlavaForConditionalGeneration.from_pretrained("this/folder")
processor = AutoProcessor.from_pretrained("this/folder")
turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
inputs = processor(Image.open("photo.jpg"), prompt, add_special_tokens=False, return_tensors="pt")
said = model.generate(**inputs, max_new_tokens=32)[0, inputs["input_ids"].shape[1]:]
print(processor.decode(said, skip_special_tokens=True))
```
"""
_TURNS = """{%- macro said(content) -%}
{%- if content is string -%}{{ content | trim }}{%- else -%}
{%- set all = namespace(text="") -%}
{%- for part in content -%}
{%- if part["type"] == 'image' -%}{%- set all.text = all.text + "<image>" -%}
{%- else -%}
{%- set between = "\\n" if all.text.endswith("<image>") and part["text"][:1] not in [" ", "\\n"] else "" -%}
{%- set all.text = all.text + between + part["text"] -%}
{%- endif -%}
{%- endfor -%}
{{ all.text | trim }}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- if message["role"] == "assistant" -%}{{ ASSISTANT + " " + said(message["content"]) + END }}
{%- elif message["role"] == "user" -%}{{ USER + said(message["content"]) + BETWEEN }}
{%- else -%}{{ SYSTEM + said(message["content"]) + BETWEEN }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ ASSISTANT }}{%- endif -%}
"""


def write_folder(
    module: Prefixed, connector: ConnectorConfig, processor: ConversationProcessor, name: str, folder: Path
) -> None:
    """Weights, configuration, preprocessing, tokenizer, template, card.

    Raises:
        ConfigError: the model has a part that LlavaForConditionalGeneration does not.
    """
    if connector.kind != "mlp":
        raise ConfigError(
            f"transformers' {_CLASS} has a connector of two maps, and this model a '{connector.kind}': train with "
            f"--model.connector.kind mlp to share it"
        )
    words = _Words(processor.tokenizer)
    model = _model(module, words, processor)
    transformers = transformers_for(f"writing a {_CLASS} folder")
    # LLaVA's own tower in the names of every version; of others, which we read in those of today alone, in those.
    usual = module.tower.config.model_type == "clip_vision_model"
    with quiet(transformers.utils.logging):
        model.save_pretrained(folder, save_original_format=usual)
    _write_processor(module.tower, processor, words, folder)
    count = sum(one.numel() for one in model.parameters())
    (folder / CARD).write_text(begun(name, _CLASS, count, "transformers", _USAGE, "image-text-to-text"), "utf-8")


class _Words:
    """The tokenizer with a token for pictures.

    Attributes:
        image_id: of it.
        total: how many tokens there are.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
        backend.add_special_tokens([IMAGE])
        found = backend.token_to_id(IMAGE)
        assert found is not None, "a token that was added has an id"
        self.tokenizer = Tokenizer(
            backend, tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id, tokenizer.mask_id
        )  # fmt: skip
        self.image_id, self.total = found, backend.get_vocab_size()


def _model(module: Prefixed, words: _Words, processor: ConversationProcessor) -> Any:
    """Theirs, on our weights."""
    transformers = transformers_for(f"writing a {_CLASS} folder")
    tower, language = module.tower, module.language
    _check_states(tower, processor.config.image.size)
    plain, state = _language(language)
    rows = max(language.vocabulary, words.total)
    config = transformers.LlavaConfig(
        vision_config=tower.config, text_config=plain, image_token_index=words.image_id, projector_hidden_act="gelu",
        vision_feature_layer=tower.layer, vision_feature_select_strategy=_strategy(tower.special),
        image_seq_length=processor.config.slots, tie_word_embeddings=bool(plain.tie_word_embeddings),
    )  # fmt: skip
    config.text_config.vocab_size = rows
    with torch.device("meta"), quiet(transformers.utils.logging):
        model = transformers.LlavaForConditionalGeneration(config)
    given = {f"language.{name}": _extended(name, one, rows, processor.tokenizer.pad_id) for name, one in state.items()}
    given |= {f"tower.{name}": one for name, one in tower.backbone.state_dict().items()}
    given |= {f"connector.{name}": one for name, one in module.connector.state_dict().items()}
    wanted = model.state_dict()
    found = {name: _found(name, given, one) for name, one in wanted.items()}
    model.load_state_dict({name: one.detach().cpu().float() for name, one in found.items()}, assign=True)
    model.tie_weights()
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=words.tokenizer.start_id, eos_token_id=words.tokenizer.end_id, pad_token_id=words.tokenizer.pad_id,
        suppress_tokens=[words.image_id],
    )  # fmt: skip
    return model.eval()


def _language(language: LanguageModel) -> tuple[Any, dict[str, Tensor]]:
    """Its configuration there, and its weights in the names there."""
    transformers = transformers_for("a language model")
    if isinstance(language, Llama):
        return transformers.LlamaConfig(**described(language.config)), public_state(language)
    if not isinstance(language, TransformersLm):
        raise ConfigError(f"transformers' {_CLASS} has a causal language model, and this one is none")
    model: Any = language.model
    return type(model.config).from_dict(model.config.to_dict()), dict(model.state_dict())


def _extended(name: str, weight: Tensor, rows: int, pad: int) -> Tensor:
    """Rows for tokens that were added: those of the padding."""
    if name not in ("lm_head.weight", "model.embed_tokens.weight") or len(weight) == rows:
        return weight
    return torch.cat([weight, weight[pad].expand(rows - len(weight), -1)])


def _found(name: str, given: dict[str, Tensor], wanted: Tensor) -> Tensor:
    """Our weight of a name there; of a pooler, which nothing reads, zeros.

    Raises:
        ConfigError: there is none: the part is of a kind that the class does not take.
    """
    rest = name.removeprefix("model.")
    for theirs, ours in (("vision_tower.", "tower."), ("language_model.", "language.model.")):
        if rest.startswith(theirs):
            rest = ours + rest.removeprefix(theirs)
    for ours_name, theirs_name in _CONNECTOR.items():
        rest = rest.replace(f"multi_modal_projector.{theirs_name}", f"connector.{ours_name}")
    rest = rest.replace("tower.vision_model.", "tower.") if rest not in given else rest
    rest = "language.lm_head.weight" if rest == "lm_head.weight" else rest
    if rest not in given and rest == "language.lm_head.weight":
        return given["language.model.embed_tokens.weight"]  # tied
    if rest not in given and ".pooler." in name:
        return torch.zeros(wanted.shape)
    if rest not in given or given[rest].shape != wanted.shape:
        raise ConfigError(f"transformers' {_CLASS} has a weight {name} of shape {list(wanted.shape)}, this model none")
    return given[rest]


def _strategy(special: int) -> str:
    found = next((name for name, count in STRATEGIES.items() if count == special), None)
    if found is None:
        raise ConfigError(f"transformers' {_CLASS} leaves out one token of its tower or none, and this model {special}")
    return found


@torch.no_grad()
def _check_states(tower: PatchFeatures, size: int) -> None:
    """Of its last states the library takes those before the tower's last norm, which ours has behind it."""
    if tower.layer != -1:
        return
    backbone: nn.Module = tower.backbone
    place = tower.mean_C11
    pixels = torch.linspace(-1, 1, 3 * size * size, device=place.device, dtype=place.dtype).view(1, 3, size, size)
    found: Any = backbone(pixel_values=pixels, output_hidden_states=True)
    if found.last_hidden_state.ndim != 3 or not torch.allclose(found.last_hidden_state, found.hidden_states[-1]):
        raise ConfigError(
            f"transformers' {_CLASS} reads the tower's states before its last norm, and this model those after it: "
            f"train with --model.layer -2 to share it"
        )


def _write_processor(tower: PatchFeatures, processor: ConversationProcessor, words: _Words, folder: Path) -> None:
    tokens, image = words.tokenizer, processor.config.image
    write_json(folder / "preprocessor_config.json", write_preprocessing(image, "CLIPImageProcessor"))
    tokens.write(folder / "tokenizer.json")
    named = {"bos_token": tokens.start_id, "eos_token": tokens.end_id, "pad_token": tokens.pad_id}
    spelled = {role: tokens.backend.id_to_token(index) for role, index in named.items() if index is not None}
    longest = processor.config.max_length
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, "image_token": IMAGE}
    told = processor.template.tokens if isinstance(processor.template, JinjaTemplate) else {}
    write_json(folder / "tokenizer_config.json", plain | spelled | told)
    (folder / "chat_template.jinja").write_text(_jinja(processor.template), encoding="utf-8")
    settings = {
        "processor_class": "LlavaProcessor", "image_token": IMAGE, "patch_size": _patch_size(tower),
        "vision_feature_select_strategy": _strategy(tower.special), "num_additional_image_tokens": tower.special,
    }  # fmt: skip
    write_json(folder / "processor_config.json", settings)


def _patch_size(tower: PatchFeatures) -> int:
    found = getattr(tower.config, "patch_size", None)
    if not isinstance(found, int):
        raise ConfigError(f"transformers' {_CLASS} counts a picture's patches, and this tower has none")
    return found


def _jinja(template: Template) -> str:
    """The template as `transformers` renders it."""
    if isinstance(template, JinjaTemplate):
        return template.source
    if not isinstance(template, PlainTemplate):
        raise ConfigError(f"transformers' {_CLASS} talks in turns, and this model's template has none")
    names = {
        "ASSISTANT": template.assistant, "END": template.end, "USER": template.user, "BETWEEN": template.between,
        "SYSTEM": template.system,
    }  # fmt: skip
    begun_with = "".join(f"{{%- set {name} = {json.dumps(text)} -%}}\n" for name, text in names.items())
    return begun_with + _TURNS
