"""Where captions stand in a record of named fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CAPTION_FIELDS = ("captions", "caption", "text", "texts", "sentences")
"""The fields that are looked at, in order; the first that holds text counts."""
IMAGE_FIELDS = ("image", "image_path", "filename", "file_name", "file", "path")
"""The columns of a table that name a picture, in order."""


def captions_of(record: Mapping[str, Any], fields: Sequence[str] = CAPTION_FIELDS) -> tuple[str, ...]:
    """The captions of the first field that has any: a string, a list of strings, or COCO's list of {"raw": ...}."""
    for field in fields:
        value = record.get(field)
        if isinstance(value, str):
            return (value,)
        if isinstance(value, Sequence) and value:
            texts = [item.get("raw", item.get("caption")) if isinstance(item, Mapping) else item for item in value]
            if found := tuple(text for text in texts if isinstance(text, str)):
                return found
    return ()


def plain_meta(record: Mapping[str, Any], without: Sequence[str]) -> dict[str, Any]:
    """The other fields of a record that are JSON values."""
    return {
        str(name): value
        for name, value in record.items()
        if name not in without and (value is None or isinstance(value, str | int | float | bool | list | dict))
    }
