"""How PaliGemma is asked: it was taught no conversation and has no chat template.

T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from diptych.core.errors import DataError
from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample
from diptych.core.sample import Turn
from diptych.core.visual import Image
from diptych.data.words.chat import IMAGE
from diptych.models.pretrained_backbone._public_reader import Reader
from diptych.models.pretrained_backbone._public_rows import Row


class PrefixReader(Reader):
    """Pictures, the start token, what is asked and a new line, all read at once; then the answer."""

    def _row(self, turns: Sequence[Turn], images: Sequence[Image], key: str, opens: bool) -> Row:
        asked = " ".join(turn.text for turn in turns if turn.role != "assistant")
        answers = [turn.text for turn in turns if turn.role == "assistant"]
        if len(answers) != (0 if opens else 1):
            raise DataError(f"{key}: {self.where} gives one answer, to one question: {len(answers)} are said here")
        first = asked.lstrip(f"{IMAGE} \n")
        if IMAGE in first:
            raise BadSample(key, "no place for a picture", f"{self.where} sees pictures before it reads any word")
        text = self.image_token * len(images) + " ".join(first.split())
        inputs = self._tensors(text, images, key, None if opens else answers[0])
        tokens_1T = inputs["input_ids"]
        learned_1T = inputs["token_type_ids"].bool() if not opens else torch.zeros_like(tokens_1T, dtype=torch.bool)
        return Row(inputs, tokens_1T.masked_fill(~learned_1T, IGNORED))

    def _without_pictures(self, text: str, suffix: str | None) -> Any:
        """As its processor would, which asks for a picture."""
        words = self.tokenizer
        said = None if suffix is None else [suffix + words.eos_token]
        return words([f"{words.bos_token}{text}\n"], said, return_tensors="pt", return_token_type_ids=True)
