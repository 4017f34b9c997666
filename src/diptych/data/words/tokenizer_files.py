"""Tokenizer files as people have them: which file to read, and which ids its control tokens have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from diptych.core.errors import DataError

_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP splits text before merging (its `simple_tokenizer`); matching is on lower-cased text."""


@dataclass(frozen=True)
class SpecialIds:
    """Control tokens that are known so far; None where not."""

    start: int | None = None
    end: int | None = None
    pad: int | None = None
    mask: int | None = None


TokenizerParts = tuple[tokenizers.Tokenizer, int | None, int, int, int | None]
"""The tokenizer and the ids of start (None: there is none), end, pad and mask (None: there is none)."""


def read_folder(folder: Path, given: SpecialIds) -> TokenizerParts:
    """`tokenizer.json` of a folder, else CLIP's `vocab.json` and `merges.txt`.

    Raises:
        DataError: the folder has neither, or a control token is not named anywhere.
    """
    if (folder / "tokenizer.json").is_file():
        return read_json(folder / "tokenizer.json", given)
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        raise DataError(f"no tokenizer in {folder}: expected tokenizer.json, or vocab.json with merges.txt")
    named = _named_tokens(folder)
    kind = str(named.get("tokenizer_class", "CLIPTokenizer"))
    backend = _clip_bpe(vocab, merges, str(named.get("unk_token", "<|endoftext|>")))
    spelled = any(token.endswith("</w>") for token in backend.get_vocab())
    if kind not in ("CLIPTokenizer", "CLIPTokenizerFast") or not spelled:
        raise DataError(f"{folder} has the vocabulary of a {kind}, not of CLIP: give its tokenizer.json instead")
    return _resolved(backend, given, SpecialIds(), named, folder)


def read_json(path: Path, given: SpecialIds) -> TokenizerParts:
    """A `tokenizer.json`, with what lies beside it.

    Raises:
        DataError: not there, not a tokenizer, or a control token is not named anywhere.
    """
    if not path.is_file():
        raise DataError(f"no tokenizer at {path}")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        plain = json.loads(text)
        backend = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the tokenizers library raises the bare class
        raise DataError(f"{path} is truncated or no tokenizer: {error}") from error
    return _resolved(backend, given, _own_ids(plain), _named_tokens(path.parent), path)


def _own_ids(plain: dict[str, Any]) -> SpecialIds:
    """What a `tokenizer.json` says of itself: what its post-processor puts around a text, what its padding is."""
    start = end = None
    for step in _steps(plain.get("post_processor") or {}):
        if step.get("type") == "TemplateProcessing":
            start, end = _template_ids(step)
        elif step.get("type") in ("RobertaProcessing", "BertProcessing"):
            start, end = int(step["cls"][1]), int(step["sep"][1])
    padding = plain.get("padding") or {}
    return SpecialIds(start, end, padding.get("pad_id"))


def _steps(processor: dict[str, Any]) -> list[dict[str, Any]]:
    return list(processor.get("processors", [])) if processor.get("type") == "Sequence" else [processor]


def _template_ids(step: dict[str, Any]) -> tuple[int | None, int | None]:
    """The ids that a template puts right before and right after the text."""
    pieces = step["single"]
    place = next(i for i, piece in enumerate(pieces) if "Sequence" in piece)

    def at(index: int) -> int | None:
        if not 0 <= index < len(pieces):
            return None
        return int(step["special_tokens"][pieces[index]["SpecialToken"]["id"]]["ids"][0])

    return at(place - 1), at(place + 1)


def _named_tokens(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json` under `special_tokens_map.json`: token names by role."""
    named: dict[str, Any] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            named.update(json.loads((folder / name).read_text(encoding="utf-8")))
    return {role: value["content"] if isinstance(value, dict) and "content" in value else value
            for role, value in named.items()}  # fmt: skip


def _resolved(
    backend: tokenizers.Tokenizer, given: SpecialIds, own: SpecialIds, named: dict[str, Any], where: Path
) -> TokenizerParts:
    """First what was asked for, then what the tokenizer itself does, then what the files beside it name."""

    def by_role(*roles: str) -> int | None:
        tokens = [named[role] for role in roles if isinstance(named.get(role), str)]
        return backend.token_to_id(tokens[0]) if tokens else None

    end = _first(given.end, own.end, by_role("eos_token", "sep_token"))
    # A post-processor that adds an end and no start says that there is no start.
    start = _first(given.start, own.start, by_role("bos_token", "cls_token") if own.end is None else None)
    pad = _first(given.pad, by_role("pad_token"), own.pad)
    for role, index in (("end", end), ("pad", pad)):
        if index is None:
            raise DataError(f"{where} does not say which token is its {role}: give {role}_id")
    assert end is not None and pad is not None
    return backend, start, end, pad, _first(given.mask, by_role("mask_token"))


def _first(*options: int | None) -> int | None:
    return next((option for option in options if option is not None), None)


def _clip_bpe(vocab: Path, merges: Path, unknown: str) -> tokenizers.Tokenizer:
    """CLIP's lower-cased byte-level BPE with `</w>` at word ends, from its two files."""
    try:
        table, pairs = models.BPE.read_file(str(vocab), str(merges))
        model = models.BPE(table, pairs, end_of_word_suffix="</w>", unk_token=unknown)
    except Exception as error:  # the tokenizers library raises the bare class
        raise DataError(f"{vocab} and {merges.name} are truncated or no vocabulary: {error}") from error
    backend = tokenizers.Tokenizer(model)
    squeeze = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), squeeze, normalizers.Lowercase()])
    words = pre_tokenizers.Split(tokenizers.Regex(_CLIP_WORDS), behavior="removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.Sequence([decoders.Replace("</w>", "Ġ"), decoders.ByteLevel()])  # Ġ: byte-level space
    return backend
