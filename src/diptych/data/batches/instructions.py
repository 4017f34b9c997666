"""Conversations for models that read what is asked with a second tokenizer beside the picture (InstructBLIP).

B conversations, J tokens of what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.core.processor import BadSample, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.batches.conversation_reader import ConversationConfig, ConversationTokens
from diptych.data.batches.conversations import Conversation, ConversationProcessor
from diptych.data.words.chat import Template
from diptych.data.words.tokenizer import Tokenizer, pad_tokens


class Asked(NamedTuple):
    """What is asked of each picture, or in each conversation.

    Attributes:
        tokens: int64 [B, J], of the second tokenizer, padded at the right.
        lengths: int64 [B].
    """

    tokens: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class InstructedBatch(ConversationBatch):
    """Conversations, and what each asks.

    Attributes:
        asked: of each conversation.
    """

    asked: Asked

    def of_pictures(self) -> Asked:
        """What is asked of each picture [N]."""
        repeats = torch.tensor(self.counts, device=self.asked.lengths.device)
        return Asked(*(one.repeat_interleave(repeats, dim=0) for one in self.asked))


class InstructedProcessor(ConversationProcessor):
    """Samples -> `InstructedBatch`.

    Attributes:
        reader: the second tokenizer.
        most: tokens that fit of what is asked.
    """

    def __init__(
        self, config: ConversationConfig, tokenizer: Tokenizer, template: Template, reader: Tokenizer, most: int
    ) -> None:
        super().__init__(config, tokenizer, template)
        self.reader, self.most = reader, most

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> Conversation:
        """As for any conversation.

        Raises:
            BadSample: what is asked does not fit, too.
        """
        found = super().prepare(sample, draw, rows)
        self._ids(found.read.asked, sample.key)
        return found

    def collate(
        self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[Conversation]
    ) -> InstructedBatch:
        whole = super().collate(keys, arrays, items)
        fields = {name: getattr(whole, name) for name in ConversationBatch.__dataclass_fields__}
        return InstructedBatch(**fields, asked=self.asked([item.read for item in items]))

    def asked(self, read: Sequence[ConversationTokens]) -> Asked:
        """What conversations ask.

        Raises:
            BadSample: it does not fit, with both numbers.
        """
        return Asked(*pad_tokens([self._ids(one.asked, "prompt") for one in read], self.reader.pad_id))

    def _ids(self, text: str, key: str) -> list[int]:
        (ids,) = self.reader.encode([text], self.most + 1)
        if len(ids) > self.most:
            raise BadSample(
                key, "question too long", f"what is asked has more than the {self.most} tokens that fit: nothing is cut"
            )
        return ids
