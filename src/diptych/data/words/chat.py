"""Conversations as text: who says what, where pictures stand, and which characters a model is to say itself.

A template comes from a `transformers` folder (`chat_template.jinja`, or in `tokenizer_config.json`), or is one of ours.
The answers are found by rendering ever longer beginnings: what an assistant's turn adds after its prompt is the answer,
with whatever ends it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from diptych.core.errors import ConfigError, DataError
from diptych.core.sample import Turn

IMAGE = "<image>"
"""Where a picture stands in a text."""

Span = tuple[int, int]


class Rendered(NamedTuple):
    """A conversation as text.

    Attributes:
        text: with `IMAGE` for each picture.
        answers: first character, and the one after the last, of what the assistant says and what ends it.
    """

    text: str
    answers: tuple[Span, ...]


class Template(Protocol):
    """Turns -> text."""

    def render(self, turns: Sequence[Turn], opens: bool) -> str:
        """The text of the turns.

        Args:
            opens: whether what stands before an assistant's turn follows at the end.
        """
        ...


@dataclass(frozen=True)
class PlainTemplate:
    """A turn after another, each behind a name: for language models that have no template of their own.

    Attributes:
        system, user, assistant: before a turn.
        between: after a turn that is no answer.
        end: after an answer: the text of the tokenizer's end token.
        picture: how a picture is written, its place in it ("<Img><image></Img> "); "" for the place as it stands.
    """

    system: str = ""
    user: str = "USER: "
    assistant: str = "ASSISTANT:"
    between: str = " "
    end: str = "</s>"
    picture: str = ""

    def __post_init__(self) -> None:
        if self.picture and self.picture.count(IMAGE) != 1:
            raise ConfigError(f"a template writes a picture with one place {IMAGE} for it, not as {self.picture!r}")

    def render(self, turns: Sequence[Turn], opens: bool) -> str:
        """The text of the turns."""
        pieces = []
        for turn in turns:
            if turn.role == "assistant":
                pieces.append(f"{self.assistant} {turn.text.strip()}{self.end}")
            else:
                before = self.user if turn.role == "user" else self.system
                pieces.append(f"{before}{self._shown(turn.text).strip()}{self.between}")
        return "".join(pieces) + (self.assistant if opens else "")

    def _shown(self, text: str) -> str:
        """With pictures as they are written; a space or a new line behind one is the template's to set."""
        return re.sub(rf"{IMAGE}[ \n]?", lambda _: self.picture, text) if self.picture else text


@dataclass(frozen=True)
class PromptTemplate:
    """Pictures, what is asked, the answer, and no names: for models that were taught no conversation (BLIP-2).

    Attributes:
        start: after the pictures that stand first: the text of the tokenizer's start token.
        asked: after what is asked.
        end: after an answer: the text of the tokenizer's end token.
    """

    start: str = ""
    asked: str = ""
    end: str = "</s>"

    def render(self, turns: Sequence[Turn], opens: bool) -> str:
        """The text of the turns; an answer goes on after a space where something is asked."""
        pictures, pieces = "", []
        for place, turn in enumerate(turns):
            text = turn.text.strip()
            if not place:
                while text.startswith(IMAGE):
                    pictures, text = pictures + IMAGE, text.removeprefix(IMAGE).lstrip()
            if turn.role != "assistant":
                pieces.append(f"{text}{self.asked}")
            else:
                pieces.append(f"{' ' if any(pieces) and not self.asked else ''}{text}{self.end}")
        return "".join((pictures, self.start, *pieces))


class JinjaTemplate:
    """A template of a `transformers` folder.

    Attributes:
        source: of the template.
        tokens: texts of the control tokens that it may name ("bos_token").

    Raises:
        ConfigError: it is no template.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        from jinja2 import TemplateSyntaxError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise DataError(f"the chat template refuses this conversation: {message}")

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = refuse
        environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ConfigError(f"the chat template cannot be read: {error}") from error
        self.source, self.tokens = source, dict(tokens)
        self._parts = "'image'" in source or '"image"' in source

    def render(self, turns: Sequence[Turn], opens: bool) -> str:
        """The text of the turns.

        Raises:
            DataError: the template refuses them (two turns of one speaker), or names what there is not.
        """
        from jinja2 import TemplateError

        messages = [{"role": turn.role, "content": self._content(turn.text)} for turn in turns]
        try:
            return self._template.render(messages=messages, add_generation_prompt=opens, tools=None, **self.tokens)
        except TemplateError as error:
            raise DataError(f"the chat template cannot render this conversation: {error}") from error

    def _content(self, text: str) -> str | list[dict[str, Any]]:
        """Pictures and text in their order, for templates that place pictures themselves."""
        if not self._parts:
            return text
        found: list[dict[str, Any]] = []
        for place, piece in enumerate(text.split(IMAGE)):
            found += [{"type": "image"}] if place else []
            found += [{"type": "text", "text": piece}] if piece else []
        return found


def rendered(template: Template, turns: Sequence[Turn], key: str) -> Rendered:
    """A conversation with its answers.

    Raises:
        DataError: it has no answer, or the template does not put turns one after another.
    """
    answers = []
    for place, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        before = template.render(turns[:place], opens=True)
        after = template.render(turns[: place + 1], opens=False)
        if not after.startswith(before):
            raise DataError(
                f"{key}: the chat template renders a beginning otherwise than the whole, so what is to be learned "
                f"cannot be told from it"
            )
        answers.append((len(before), len(after)))
    whole = template.render(turns, opens=False)
    if not answers:
        raise DataError(f"{key}: a conversation with no answer teaches nothing")
    if not whole.startswith(after):
        raise DataError(f"{key}: the chat template renders a beginning otherwise than the whole")
    return Rendered(whole, tuple(answers))


def read_template(folder: Path) -> JinjaTemplate | None:
    """The template of a `transformers` folder; None where it has none.

    Raises:
        ConfigError: it cannot be read.
    """
    settings: dict[str, Any] = {}
    path = folder / "tokenizer_config.json"
    if path.is_file():
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is truncated or not JSON") from error
    source = settings.get("chat_template")
    for name in ("chat_template.jinja", "chat_template.json"):
        if (folder / name).is_file():
            written = (folder / name).read_text(encoding="utf-8")
            source = written if name.endswith("jinja") else json.loads(written).get("chat_template")
            break
    if isinstance(source, list):  # several, by name
        source = next((one["template"] for one in source if one.get("name") == "default"), None)
    if not source:
        return None
    tokens = {
        name: value if isinstance(value, str) else str(value.get("content", ""))
        for name, value in settings.items()
        if name.endswith("_token") and isinstance(value, str | dict)
    }
    return JinjaTemplate(source, tokens)
