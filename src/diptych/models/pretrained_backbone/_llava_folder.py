"""transformers' LlavaForConditionalGeneration folders: tower, connector, language model, template, as ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from diptych.core.errors import CheckpointError, ConfigError
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.words.chat import PlainTemplate, read_template
from diptych.data.words.tokenizer import Tokenizer
from diptych.models._public_folder import read_json, read_preprocessing, read_weights
from diptych.models._weight_tables import both, load_into, read
from diptych.models.pretrained_backbone._language_folder import language_of
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._tower_part import tower_of

_TOWER, _CONNECTOR, _LANGUAGE = "vision_tower.", "multi_modal_projector.", "language_model."
STRATEGIES = {"default": 1, "full": 0}


@dataclass(frozen=True)
class PublicLlava:
    """What a folder holds.

    Attributes:
        layer, special: of the tower: which states, and how many tokens before the patches are left out.
        connector: weights of the two maps, in our names.
    """

    path: Path
    tower: PatchFeatures
    language: LanguageModel
    processor: ConversationProcessor
    layer: int
    special: int
    connector: dict[str, Tensor]

    def fill(self, connector: nn.Module) -> None:
        """Loads the connector's weights, strictly."""
        load_into(connector, self.connector, self.path)


def read_folder(folder: Path) -> PublicLlava:
    """Sizes and weights of a folder.

    Raises:
        CheckpointError: a file or a weight is missing or left over.
        ConfigError: it has a part that is not done here.
    """
    plain = read_json(folder / "config.json")
    _check(plain, folder)
    parts = _parts({name.removeprefix("model."): one for name, one in read_weights(folder).items()}, folder)
    image = read_preprocessing(folder, int(plain["vision_config"].get("image_size", 224)))
    layer, special = int(plain.get("vision_feature_layer", -2)), _special(plain, folder)
    backbone = tower_of(plain["vision_config"], parts[_TOWER], folder)
    tower = PatchFeatures(backbone, False, image.mean, image.std, layer, special)
    language = language_of(plain["text_config"], parts[_LANGUAGE], folder)
    names = [*both("up", "linear_1"), *both("down", "linear_2")]
    features, _ = tower.shape(image.size)
    settings = ConversationConfig(image, features, 16, min(language.context, 1 << 16))
    template = read_template(folder) or PlainTemplate()
    processor = ConversationProcessor(settings, Tokenizer.from_folder(folder), template)
    connector = read(names, parts[_CONNECTOR], folder)
    return PublicLlava(folder, tower, language, processor, layer, special, connector)


def _check(plain: Mapping[str, Any], where: Path) -> None:
    for name, expected in {"projector_hidden_act": "gelu", "multimodal_projector_bias": True}.items():
        if plain.get(name, expected) != expected:
            raise ConfigError(f"{where}: {name} {plain[name]!r} is not done here, {expected!r} is")
    if not isinstance(plain.get("vision_feature_layer", -2), int):
        raise ConfigError(f"{where}: several layers of the tower side by side are not done here")


def _special(plain: Mapping[str, Any], where: Path) -> int:
    strategy = plain.get("vision_feature_select_strategy", "default")
    if strategy not in STRATEGIES:
        raise ConfigError(f"{where}: vision_feature_select_strategy {strategy!r} is none of {', '.join(STRATEGIES)}")
    return STRATEGIES[strategy]


def _parts(weights: Mapping[str, Tensor], where: Path) -> dict[str, dict[str, Tensor]]:
    """The weights of each part, without its prefix; the head is the language model's, wherever it stands."""
    found: dict[str, dict[str, Tensor]] = {_TOWER: {}, _CONNECTOR: {}, _LANGUAGE: {}}
    for name, one in weights.items():
        if name == "lm_head.weight":
            found[_LANGUAGE][name] = one
            continue
        part = next((part for part in found if name.startswith(part)), None)
        if part is None:
            raise CheckpointError(f"{where} has weights that no LLaVA has: {name}")
        rest = name.removeprefix(part)
        if part == _LANGUAGE and not rest.startswith(("model.", "lm_head.")):
            rest = f"model.{rest}"
        found[part][rest.removeprefix("vision_model.")] = one.float()
    return found
