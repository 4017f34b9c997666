"""Conversations about pictures: JSON or JSONL beside the pictures, in the form of LLaVA, ShareGPT or Hugging Face.

LLaVA, ShareGPT   {"id", "image" or "images", "conversations": [{"from": "human", "value": "<image>\nWhat?"}]}
Hugging Face      {"messages": [{"role": "user", "content": "..." or [{"type": "image"}, {"type": "text"}]}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.data.sources._content import digest_of, files_digest
from diptych.data.sources.table import json_lines, read_picture
from diptych.data.words.chat import IMAGE

Role = Literal["user", "assistant", "system"]
_TALKS = ("conversations", "messages")
_ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "model": "assistant", "system": "system",
}  # fmt: skip
_PATHS = ("image", "path", "url")


class ConversationFile:
    """One sample a record.

    Raises:
        DataError: the file cannot be read, or its records hold no conversations.
    """

    def __init__(self, path: Path, images: Path | None = None) -> None:
        self.name = str(path)
        self._folder = images or path.parent
        self._records: dict[str, dict[str, Any]] = {}
        self._fingerprint = ""
        for number, record in enumerate(records_of(path), 1):
            if not has_conversation(record):
                raise DataError(f"{path}, record {number} has neither {' nor '.join(_TALKS)}")
            key = str(record.get("id", f"{path.stem}-{number:08d}"))
            self._records[key if key not in self._records else f"{key}#{number}"] = record
        if not self._records:
            raise DataError(f"{path} holds no conversations")
        self._keys = list(self._records)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        """Of what is said and of the pictures, as they are when it is first asked for."""
        if not self._fingerprint:
            said = json.dumps(list(self._records.items()), ensure_ascii=True, sort_keys=True)
            shown = [self._folder / name for record in self._records.values() for name in _pictures(record)]
            self._fingerprint = digest_of([said, files_digest(shown)])
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        """Reads the pictures' files.

        Raises:
            BadSample: "missing image", or "unusable conversation": an unknown speaker, or no words.
        """
        key = self._keys[index]
        record = self._records[key]
        turns = tuple(_turn(one, key) for one in record[next(name for name in _TALKS if name in record)])
        images = tuple(read_picture(self._folder / name, key) for name in _pictures(record))
        return Sample(key, images, turns=turns)


def has_conversation(record: Mapping[str, Any]) -> bool:
    """Whether a record is a conversation."""
    return any(isinstance(record.get(name), list) for name in _TALKS)


def holds_conversations(path: Path) -> bool:
    """Whether a file is JSON, or JSON lines of which the first is a conversation.

    Raises:
        DataError: JSON lines that are none.
    """
    if path.suffix != ".jsonl":
        return path.suffix == ".json"
    first = next(records_of(path), None)
    return first is not None and has_conversation(first)


def records_of(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON list or of JSON lines.

    Raises:
        DataError: it is neither.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            if path.suffix == ".jsonl":
                yield from json_lines(file, path)
                return
            found = json.load(file)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from error
    except ValueError as error:
        raise DataError(f"{path} is truncated or not JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise DataError(f"{path} is no list of records")
    yield from found


def _pictures(record: Mapping[str, Any]) -> list[str]:
    """The files that a record names, in order: beside the conversation, or in its parts."""
    named = record.get("images", record.get("image"))
    if named is not None:
        return [named] if isinstance(named, str) else [str(name) for name in named]
    talk = next(record[name] for name in _TALKS if name in record)
    parts = [part for one in talk if isinstance(one, dict) for part in _content(one) if isinstance(part, dict)]
    return [str(part[name]) for part in parts for name in _PATHS if isinstance(part.get(name), str)]


def _turn(said: Any, key: str) -> Turn:
    if not isinstance(said, dict):
        raise BadSample(key, "unusable conversation", f"a turn is {str(said)[:40]!r}")
    speaker = str(said.get("role", said.get("from", "")))
    if speaker not in _ROLES:
        raise BadSample(key, "unusable conversation", f"nobody here is called {speaker!r}")
    pieces = []
    for part in _content(said):
        if isinstance(part, str):
            pieces.append(part)
        elif isinstance(part, dict) and part.get("type") == "text":
            pieces.append(str(part.get("text", "")))
        elif isinstance(part, dict) and str(part.get("type", "")).startswith("image"):
            pieces.append(IMAGE)
        else:
            raise BadSample(key, "unusable conversation", f"a part of a turn is {str(part)[:40]!r}")
    return Turn(_ROLES[speaker], "\n".join(piece for piece in pieces if piece))


def _content(said: Mapping[str, Any]) -> Sequence[Any]:
    found = said.get("content", said.get("value", ""))
    return found if isinstance(found, list) else [found if found is None else str(found)]
