"""Prompt templates for zero-shot classification, by name."""

from __future__ import annotations

from pathlib import Path

from diptych.core.errors import ConfigError, DataError, unknown_name
from diptych.data.scenes.world import COLOURS

TEMPLATES = {
    "name": ("{}",),
    "plain": ("a photo of a {}",),
    # The scenes' captions always name a colour, so the class is named in every one of them.
    "scenes": tuple(f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {{}}" for colour in COLOURS),
    # The seven that the CLIP authors found to be the best subset of their eighty for ImageNet.
    "openai_7": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
}


def templates(name: str) -> tuple[str, ...]:
    """A named set, a template itself, or a file with one a line.

    Raises:
        ConfigError: a template without a place for the class name, or an unknown set.
        DataError: an empty file.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    if "{}" in name:
        return (name,)
    if Path(name).is_file():
        found = tuple(line for line in Path(name).read_text(encoding="utf-8").splitlines() if line.strip())
        if not found:
            raise DataError(f"{name} holds no templates")
        if without := [line for line in found if "{}" not in line]:
            raise ConfigError(f"{name}: the template '{without[0]}' has no {{}} for the class name")
        return found
    raise unknown_name("set of templates", name, TEMPLATES)
