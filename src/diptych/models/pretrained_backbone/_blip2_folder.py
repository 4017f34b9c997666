"""transformers' folders of BLIP-2's kind: tower, Q-Former, map, language model, and how prompts are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from diptych.core.errors import CheckpointError, ConfigError
from diptych.core.sample import Turn
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.words.chat import PromptTemplate
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import transformers_for
from diptych.layers.qformer import QFormerConfig
from diptych.models._public_folder import read_json, read_preprocessing, read_weights
from diptych.models._weight_tables import load_into, read
from diptych.models.pretrained_backbone._language_folder import language_of
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._qformer_names import bridge_names, without_unread
from diptych.models.pretrained_backbone._tower_part import tower_of

_TOWER, _LANGUAGE = "vision_model.", "language_model."
_BRIDGE = ("qformer.", "query_tokens", "language_projection.")
_MOST = 1 << 16


@dataclass(frozen=True)
class PublicBlip2:
    """What a folder holds.

    Attributes:
        bridge: weights of Q-Former and map, in our names.
    """

    path: Path
    tower: PatchFeatures
    language: LanguageModel
    processor: ConversationProcessor
    qformer: QFormerConfig
    bridge: dict[str, Tensor]

    def fill(self, bridge: nn.Module) -> None:
        """Loads the bridge's weights, strictly."""
        load_into(bridge, self.bridge, self.path)


def read_folder(folder: Path, instructed: bool) -> PublicBlip2:
    """Sizes and weights of a folder.

    Args:
        instructed: whether its Q-Former reads what is asked.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: it has a part that is not done here.
    """
    plain = _whole(folder)
    parts = _parts({name.removeprefix("model."): one for name, one in read_weights(folder).items()}, folder)
    image = read_preprocessing(folder, int(plain["vision_config"]["image_size"]))
    backbone = tower_of(plain["vision_config"], parts[_TOWER], folder)
    language = language_of(plain["text_config"], parts[_LANGUAGE], folder)
    sizes = _sizes(plain, instructed, folder)
    words = Tokenizer.read(folder, end_id=_end(plain, folder))
    settings = ConversationConfig(image, sizes.queries, 1, min(language.context, _MOST))
    processor = ConversationProcessor(settings, words, _template(words, bool(plain["is_encoder_decoder"])))
    _check_end(processor, folder)
    bridge = read(bridge_names(sizes), without_unread(sizes, parts["bridge"]), folder)
    tower = PatchFeatures(backbone, False, image.mean, image.std, layer=-1, special=0)
    return PublicBlip2(folder, tower, language, processor, sizes, bridge)


def _whole(folder: Path) -> dict[str, Any]:
    """The configuration with what the folder leaves to the library's defaults."""
    read_json(folder / "config.json")
    transformers = transformers_for(f"the model {folder}")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = f"{error}".partition("\n")[0]
        raise CheckpointError(f"{folder} holds no configuration of BLIP-2's kind: {reason}") from error
    plain: dict[str, Any] = config.to_dict()
    plain["is_encoder_decoder"] = not config.use_decoder_only_language_model
    return plain


def _sizes(plain: Mapping[str, Any], instructed: bool, where: Path) -> QFormerConfig:
    theirs = plain["qformer_config"]
    if theirs["hidden_act"] != "gelu":
        raise ConfigError(f"{where}: a Q-Former with {theirs['hidden_act']!r} is not done here, 'gelu' is")
    return QFormerConfig(
        plain["num_query_tokens"], theirs["hidden_size"], theirs["num_hidden_layers"], theirs["num_attention_heads"],
        theirs["intermediate_size"], theirs["encoder_hidden_size"], theirs["cross_attention_frequency"],
        theirs["vocab_size"] if instructed else 0, theirs["max_position_embeddings"], theirs["layer_norm_eps"],
    )  # fmt: skip


def _end(plain: Mapping[str, Any], folder: Path) -> int:
    """The token that ends an answer, which need not be the one that the tokenizer ends a text with."""
    path = folder / "generation_config.json"
    found = read_json(path).get("eos_token_id") if path.is_file() else None
    found = plain["text_config"]["eos_token_id"] if found is None else found
    return int(found[0] if isinstance(found, list) else found)


def _template(words: Tokenizer, encoder_decoder: bool) -> PromptTemplate:
    end = _text(words, words.end_id)
    start = "" if words.start_id is None else _text(words, words.start_id)
    return PromptTemplate(start, end if encoder_decoder else "", end)


def _text(words: Tokenizer, token: int) -> str:
    return str(words.backend.decode([token], skip_special_tokens=False))


def _check_end(processor: ConversationProcessor, where: Path) -> None:
    labels = processor.read([Turn("user", "a"), Turn("assistant", "a")], 0, "").labels
    if labels[-1] != processor.tokenizer.end_id:
        end = _text(processor.tokenizer, processor.tokenizer.end_id)
        raise ConfigError(f"{where}: the tokenizer does not read {end!r} as the token that ends an answer")


def _parts(weights: Mapping[str, Tensor], where: Path) -> dict[str, dict[str, Tensor]]:
    """The weights of tower and language model, without their prefixes, and those of the bridge."""
    found: dict[str, dict[str, Tensor]] = {_TOWER: {}, _LANGUAGE: {}, "bridge": {}}
    for name, one in weights.items():
        part = next((part for part in (_TOWER, _LANGUAGE) if name.startswith(part)), None)
        if part is not None:
            found[part][name.removeprefix(part)] = one.float()
        elif name.startswith(_BRIDGE):
            found["bridge"][name] = one.float()
        else:
            raise CheckpointError(f"{where} has weights that no model of BLIP-2's kind has: {name}")
    return found
