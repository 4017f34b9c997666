"""Conversations as a public model reads them: its own chat template, its own processor, and what of it is an answer.

T tokens.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import PIL.Image
import torch
from torch import Tensor

from diptych.core.errors import ConfigError, DataError
from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample
from diptych.core.sample import Turn
from diptych.core.visual import Image
from diptych.data.batches.conversation_reader import with_places
from diptych.data.pixels.decode import decode
from diptych.data.words.chat import IMAGE, Span, rendered
from diptych.models.pretrained_backbone._public_files import Public
from diptych.models.pretrained_backbone._public_rows import Row

_UNBOUNDED = 1 << 20


class Written(NamedTuple):
    """A conversation as text.

    Attributes:
        text: with the processor's own mark for each picture.
        answers: what of its characters is learned.
    """

    text: str
    answers: Sequence[Span]


class Reader(ABC):
    """Turns and pictures -> a row of tensors.

    Attributes:
        context: the longest row in tokens, pictures counted.
        ends: tokens that end an answer.
        pad_id: fills rows.

    Args:
        max_length: of a row; 0 for what the model's own configuration says.
        where: the model's name, for messages.

    Raises:
        ConfigError: the tokenizer does not say where its tokens stand, or names no end.
    """

    def __init__(self, public: Public, max_length: int, where: str) -> None:
        module: Any = public.module
        self.processor, self.where = public.processor, where
        self.tokenizer: Any = public.processor.tokenizer
        if not self.tokenizer.is_fast:
            raise ConfigError(f"{where}: its tokenizer does not say where its tokens stand: give it a tokenizer.json")
        self._lock = Lock()  # fast tokenizers keep settings of a call that another thread must not change
        self._taken = frozenset(inspect.signature(module.forward).parameters) - {"labels"}
        longest = int(getattr(module.config.get_text_config(), "max_position_embeddings", None) or _UNBOUNDED)
        self.context = min(max_length or longest, longest)
        self.ends = _ends(module.generation_config.eos_token_id, self.tokenizer.eos_token_id)
        if not self.ends:
            raise ConfigError(f"{where} names no token that ends an answer (eos_token_id)")
        pad = self.tokenizer.pad_token_id
        self.pad_id: int = min(self.ends) if pad is None else int(pad)
        self.image_token = str(public.processor.image_token)

    def read(self, turns: Sequence[Turn], images: Sequence[Image], key: str) -> Row:
        """A conversation with what is learned of it.

        Raises:
            BadSample: too long, pictures without a place, words that only a template may write, a damaged picture.
            DataError: there is no answer, or the template refuses the conversation.
        """
        return self._row(self._placed(turns, images, key), images, key, opens=False)

    def opened(
        self, turns: Sequence[Turn], images: Sequence[Image], key: str, marks: frozenset[str] = frozenset()
    ) -> Row:
        """A conversation whose next turn is the assistant's, as a prompt.

        Args:
            marks: control tokens that turns may hold.

        Raises:
            BadSample, DataError: as for `read`.
        """
        return self._row(self._placed(turns, images, key, marks), images, key, opens=True)

    def require_plain(self, text: str, key: str, marks: frozenset[str] = frozenset()) -> None:
        """Raises a BadSample where somebody says a control token, but for `marks`."""
        reserved = {*self.tokenizer.all_special_tokens, self.image_token} - {IMAGE} - marks
        written = next((one for one in sorted(reserved) if one in text), None)
        if written is not None:
            raise BadSample(key, "control token in a turn", f"somebody says {written!r}, which only the template may")

    def words(self, ids: Sequence[int]) -> str:
        """What written tokens say."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    @abstractmethod
    def _row(self, turns: Sequence[Turn], images: Sequence[Image], key: str, opens: bool) -> Row:
        """The row of turns with a place for each picture."""

    def _placed(
        self, turns: Sequence[Turn], images: Sequence[Image], key: str, marks: frozenset[str] = frozenset()
    ) -> list[Turn]:
        for turn in turns:
            self.require_plain(turn.text, key, marks)
        return with_places(turns, len(images), key)

    def _tensors(self, text: str, images: Sequence[Image], key: str, suffix: str | None = None) -> dict[str, Tensor]:
        """What the processor makes of a text with its marks, of the right length."""
        shown = [PIL.Image.fromarray(decode(image, key)) for image in images]
        more = {} if suffix is None else {"suffix": [suffix]}
        with self._lock:
            if shown:
                found = self.processor(text=[text], images=[shown], return_tensors="pt", **more)
            else:
                found = self._without_pictures(text, suffix)
        self._check_length(found["input_ids"].shape[1], len(images), key)
        return {name: found[name] for name in found if name in self._taken}

    def _without_pictures(self, text: str, suffix: str | None) -> Any:
        return self.processor(text=[text], return_tensors="pt")

    def _check_length(self, length: int, pictures: int, key: str) -> None:
        if length > self.context:
            raise BadSample(
                key, "conversation too long",
                f"{length} tokens with {pictures} pictures, and {self.context} fit: nothing is cut",
            )  # fmt: skip


class ChatReader(Reader):
    """By the folder's chat template.

    Raises:
        ConfigError: it has none.
    """

    def __init__(self, public: Public, max_length: int, where: str) -> None:
        super().__init__(public, max_length, where)
        template = public.processor.chat_template or self.tokenizer.chat_template
        self._template = template.get("default") if isinstance(template, dict) else template
        if not self._template:
            raise ConfigError(
                f"{where} has no chat template, which says how a question is put to it: add a chat_template.jinja"
            )
        self._image_id = self.tokenizer.convert_tokens_to_ids(self.image_token)
        self._end_texts = [str(token) for token in self.tokenizer.convert_ids_to_tokens(sorted(self.ends))]

    def render(self, turns: Sequence[Turn], opens: bool) -> str:
        """The text of turns, by the library.

        Raises:
            DataError: the template refuses them.
        """
        from jinja2 import TemplateError

        messages = [{"role": turn.role, "content": _parts(turn.text)} for turn in turns]
        try:
            return str(
                self.processor.apply_chat_template(
                    messages, chat_template=self._template, add_generation_prompt=opens, tokenize=False
                )
            )
        except TemplateError as error:
            raise DataError(f"the chat template cannot render this conversation: {error}") from error

    def _row(self, turns: Sequence[Turn], images: Sequence[Image], key: str, opens: bool) -> Row:
        written = Written(self.render(turns, True), ()) if opens else self._with_ends(*rendered(self, turns, key))
        places = written.text.count(self.image_token)
        if places != len(images):
            raise BadSample(
                key, "no place for a picture",
                f"the chat template leaves {places} places ({self.image_token}) for {len(images)} pictures",
            )  # fmt: skip
        inputs = self._tensors(written.text, images, key)
        return Row(inputs, self._labels(written, inputs["input_ids"], key))

    def _with_ends(self, text: str, answers: Sequence[Span]) -> Written:
        """Each answer up to the token that ends it, which is written where the template leaves it out."""
        spans: list[Span] = []
        for begin, end in reversed(answers):
            said = text[begin:end]
            ended = [said.index(one) + len(one) for one in self._end_texts if one in said]
            if ended:
                spans.insert(0, (begin, begin + min(ended)))
                continue
            closed = said.rstrip() + self.tokenizer.convert_ids_to_tokens(self._end_of_text)
            grown = begin + len(closed) - end
            text = text[:begin] + closed + text[end:]
            spans = [(begin, begin + len(closed)), *((first + grown, last + grown) for first, last in spans)]
        return Written(text, spans)

    @property
    def _end_of_text(self) -> int:
        own = self.tokenizer.eos_token_id
        return min(self.ends) if own is None else int(own)

    def _labels(self, written: Written, tokens_1T: Tensor, key: str) -> Tensor:
        """What is learned, found in the text as it is before pictures take their room: all of it stands after them."""
        labels_1T = torch.full_like(tokens_1T, IGNORED)
        if not written.answers:
            return labels_1T
        with self._lock:
            plain = self.tokenizer(written.text, return_offsets_mapping=True)
        ids = list(plain["input_ids"])
        after = len(ids) - 1 - ids[::-1].index(self._image_id) if self._image_id in ids else -1
        tail = len(ids) - 1 - after
        if tokens_1T[0, tokens_1T.shape[1] - tail :].tolist() != ids[after + 1 :]:
            raise ConfigError(f"{self.where}: its processor reads {key} otherwise than its tokenizer does")
        for place, (first, last) in enumerate(plain["offset_mapping"]):
            if not any(first < end and last > begin for begin, end in written.answers):
                continue
            if place <= after:
                raise BadSample(key, "an answer before a picture", "what is learned must stand behind all pictures")
            labels_1T[0, place - len(ids)] = ids[place]
        return labels_1T


def _parts(text: str) -> list[dict[str, str]]:
    """Pictures and words in their order, as chat templates want them."""
    found: list[dict[str, str]] = []
    for place, piece in enumerate(text.split(IMAGE)):
        found += [{"type": "image"}] if place else []
        found += [{"type": "text", "text": piece.strip()}] if piece.strip() else []
    return found


def _ends(*named: int | Sequence[int] | None) -> frozenset[int]:
    found: set[int] = set()
    for one in named:
        found |= set() if one is None else {one} if isinstance(one, int) else set(one)
    return frozenset(found)
