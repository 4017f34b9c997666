"""Saving a chat template beside a model: one of ours as its fields, one from a folder as it was written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from diptych.core.config import from_plain
from diptych.core.errors import CheckpointError
from diptych.data.words.chat import JinjaTemplate, PlainTemplate, PromptTemplate, Template

_PLAIN, _PROMPT, _JINJA = "template.json", "prompt_template.json", "chat_template.jinja"


def write_saved(template: Template, folder: Path) -> None:
    """Writes it."""
    if isinstance(template, JinjaTemplate):
        (folder / _JINJA).write_text(template.source, encoding="utf-8")
        (folder / _PLAIN).write_text(json.dumps({"tokens": template.tokens}) + "\n", encoding="utf-8")
        return
    assert isinstance(template, PlainTemplate | PromptTemplate), "a template is one of ours or of a folder"
    name = _PLAIN if isinstance(template, PlainTemplate) else _PROMPT
    (folder / name).write_text(json.dumps(asdict(template)) + "\n", encoding="utf-8")


def read_saved(folder: Path) -> Template:
    """Reads what `write_saved` wrote.

    Raises:
        CheckpointError: it is not there.
    """
    if (folder / _PROMPT).is_file():
        return from_plain(PromptTemplate, json.loads((folder / _PROMPT).read_text(encoding="utf-8")))
    if not (folder / _PLAIN).is_file():
        raise CheckpointError(f"{folder} lacks {_PLAIN}: how conversations are written")
    plain = json.loads((folder / _PLAIN).read_text(encoding="utf-8"))
    if (folder / _JINJA).is_file():
        return JinjaTemplate((folder / _JINJA).read_text(encoding="utf-8"), plain["tokens"])
    return from_plain(PlainTemplate, plain)
