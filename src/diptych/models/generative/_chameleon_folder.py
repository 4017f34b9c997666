"""transformers' ChameleonForConditionalGeneration folders: sizes, vocabulary, tokenizer and weights as ours.

Their vocabulary has codes of pictures among its words, in an order of their own; here the codebook is put into the
order of the tokens, so that a code's token is the first one's plus its number. transformers rules codes out of what is
written: pictures are read there, and made here where the folder `vqgan` holds a decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import CheckpointError, ConfigError
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.causal_block import CausalConfig
from diptych.models._public_folder import read_json, read_weights
from diptych.models._weight_tables import Entry, both, load_into, read
from diptych.models.generative._document_layout import Places
from diptych.models.generative._document_module import DocumentModel
from diptych.models.generative._picture_codes import EncodedPictures, PictureCodes, VqPictures
from diptych.models.image_tokenizer import _chameleon, vq

_CODE, _DIGITS = "IMGIMG", "ABCDEFGHIJ"
BEGIN, FINISH = "<racm3:break>", "<eoss>"
PICTURES = "model.vqmodel."
_PLAIN = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False}
_PREPROCESSING, _BILINEAR = "preprocessor_config.json", 2
WITH_DECODER = "vqgan"
"""A folder inside, with the whole tokenizer of pictures."""


@dataclass(frozen=True)
class PublicChameleon:
    """What a folder holds.

    Attributes:
        words: the vocabulary's size.
        context: the longest document.
        state: our state dict, the tokenizer's part without what training alone keeps.
    """

    path: Path
    trunk: CausalConfig
    codes: PictureCodes
    words: int
    context: int
    places: Places
    processor: ImageTextProcessor
    state: dict[str, Tensor]

    def fill(self, module: DocumentModel) -> None:
        """Loads the weights, strictly."""
        fresh = module.tokenizer.quantizer.state_dict(prefix="tokenizer.quantizer.")
        load_into(module, fresh | self.state, self.path)


def read_folder(folder: Path) -> PublicChameleon:
    """Sizes and weights of a folder.

    Raises:
        CheckpointError: a file or a weight is missing or left over, or the vocabulary has no place for pictures.
        ConfigError: it has a part that is not done here.
    """
    plain = read_json(folder / "config.json")
    trunk, (places, order) = _trunk(plain, folder), _places(plain.get("vocabulary_map") or {}, folder)
    weights = read_weights(folder)
    pictures = {name.removeprefix(PICTURES): one for name, one in weights.items() if name.startswith(PICTURES)}
    rest = {name: one for name, one in weights.items() if not name.startswith(PICTURES)}
    codes, found = _tokenizer(plain, pictures, folder)
    if len(order) != codes.vocabulary:
        raise CheckpointError(f"{folder}: {len(order)} tokens of pictures, and a codebook of {codes.vocabulary}")
    found["quantizer.codebook_KC"] = found["quantizer.codebook_KC"][order]
    state = read(trunk_entries(trunk.depth), rest, folder) | {f"tokenizer.{name}": one for name, one in found.items()}
    context = int(plain.get("max_position_embeddings", 4096))
    processor = _processor(folder, codes, context)
    return PublicChameleon(folder, trunk, codes, int(plain["vocab_size"]), context, places, processor, state)


def _trunk(plain: Mapping[str, Any], where: Path) -> CausalConfig:
    for name, expected in _PLAIN.items():
        if plain.get(name, expected) != expected:
            raise ConfigError(f"{where}: {name} {plain[name]!r} is not done here, {expected!r} is")
    positions = plain.get("rope_parameters") or {}
    if positions.get("rope_type", "default") != "default" or plain.get("rope_scaling"):
        raise ConfigError(f"{where}: scaled rotary positions are not done here")
    heads = plain["num_attention_heads"]
    keys = plain.get("num_key_value_heads") or heads
    return CausalConfig(
        plain["hidden_size"], plain["num_hidden_layers"], heads, plain["intermediate_size"],
        0 if keys == heads else keys, eps=plain.get("rms_norm_eps", 1e-5), norm_after=plain.get("swin_norm", False),
        head_norm=True, rotary=float(positions.get("rope_theta", plain.get("rope_theta", 10_000.0))),
    )  # fmt: skip


def _places(vocabulary: Mapping[str, int], where: Path) -> tuple[Places, Tensor]:
    """Where pictures lie in the vocabulary; the code of each of its tokens, in the order of the tokens."""
    tokens = sorted((number, name) for name, number in vocabulary.items() if name.startswith(_CODE))
    if missing := [name for name in (BEGIN, FINISH) if name not in vocabulary]:
        raise CheckpointError(f"{where}: vocabulary_map of config.json lacks {missing[0]}")
    if not tokens or [number for number, _ in tokens] != list(range(tokens[0][0], tokens[0][0] + len(tokens))):
        raise CheckpointError(f"{where}: the tokens of pictures ({_CODE}...) do not lie together in vocabulary_map")
    order = [int("".join(str(_DIGITS.index(one)) for one in name[len(_CODE) : -1])) for _, name in tokens]
    if sorted(order) != list(range(len(order))):
        raise CheckpointError(f"{where}: the tokens of pictures in vocabulary_map do not count every code once")
    return Places(tokens[0][0], vocabulary[BEGIN], vocabulary[FINISH]), torch.tensor(order)


def _tokenizer(
    plain: Mapping[str, Any], public: Mapping[str, Tensor], folder: Path
) -> tuple[PictureCodes, dict[str, Tensor]]:
    """The tokenizer of pictures and its weights; with a decoder where there is one."""
    config, size = _chameleon.sizes_of(plain.get("vq_config") or {}, folder)
    state = _chameleon.read_state(public, config, folder)
    whole = _chameleon.has_decoder(public)
    if not whole and (folder / WITH_DECODER).is_dir():
        beside = _chameleon.read_chameleon(folder / WITH_DECODER)
        if not beside.whole or beside.config != config:
            raise CheckpointError(f"{folder / WITH_DECODER} holds no decoder of pictures, or one of other sizes")
        state, whole = beside.state, True
    image = _image(folder, size)
    if whole:
        sizes = vq.Config(config.autoencoder, config.quantizer)
        return VqPictures(image_size=size, mean=image.mean, std=image.std, tokenizer=sizes), state
    return EncodedPictures(image_size=size, mean=image.mean, std=image.std, tokenizer=config), state


def _processor(folder: Path, codes: PictureCodes, context: int) -> ImageTextProcessor:
    rows, columns = codes.grid()
    settings = ImageTextConfig(_image(folder, codes.image_size), TextPreprocessing(context - rows * columns - 2))
    return ImageTextProcessor(settings, Tokenizer.from_folder(folder))


def _image(folder: Path, size: int) -> ImagePreprocessing:
    """How pictures are prepared: as Chameleon's are, or as the folder says."""
    image = _chameleon.processor_of(size).image
    if not (folder / _PREPROCESSING).is_file():
        return image
    plain = read_json(folder / _PREPROCESSING)
    scale = 255 * float(plain.get("rescale_factor", _chameleon.PIXEL_FACTOR))
    mean, std = (plain.get(name, (1.0, 1.0, 1.0)) for name in ("image_mean", "image_std"))
    return replace(
        image,
        resize="shorter_crop" if plain.get("do_center_crop", True) else "squash",
        mean=(mean[0] / scale, mean[1] / scale, mean[2] / scale),
        std=(std[0] / scale, std[1] / scale, std[2] / scale),
        kernel="bilinear" if plain.get("resample") == _BILINEAR else "bicubic",
    )


def name_of(code: int) -> str:
    """A code's token, as their vocabulary spells it: a letter for each digit."""
    return f"{_CODE}{''.join(_DIGITS[int(digit)] for digit in str(code))}Z"


def trunk_entries(depth: int) -> list[Entry]:
    """Which weight of the trunk, with embedding and head, is which of ours."""
    found = [
        Entry("embedding.weight", ("model.embed_tokens.weight",)),
        Entry("trunk.norm.weight", ("model.norm.weight",)),
        Entry("head.weight", ("lm_head.weight",)),
    ]
    for layer in range(depth):
        found += _block(f"trunk.blocks.{layer}", f"model.layers.{layer}")
    return found


def _block(ours: str, theirs: str) -> list[Entry]:
    attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
    return [
        Entry(f"{ours}.attention.query.weight", (f"{attention}.q_proj.weight",)),
        Entry(f"{ours}.attention.key_value.weight", (f"{attention}.k_proj.weight", f"{attention}.v_proj.weight")),
        Entry(f"{ours}.attention.out.weight", (f"{attention}.o_proj.weight",)),
        *both(f"{ours}.attention.query_norm", f"{attention}.q_norm"),
        *both(f"{ours}.attention.key_norm", f"{attention}.k_norm"),
        Entry(f"{ours}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",)),
        Entry(f"{ours}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",)),
        Entry(f"{ours}.mlp.up.weight", (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")),
        Entry(f"{ours}.mlp.down.weight", (f"{mlp}.down_proj.weight",)),
    ]
