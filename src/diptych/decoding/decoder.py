"""What decoding asks of a model: the logits of the next token of some rows, one token further each time.

N rows, V vocabulary.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Decoder(Protocol):
    """Rows that are being written, with what was read of them already (a prompt, at first)."""

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """Logits [N, V] of each row's next token.

        Args:
            tokens_N: the token that each row goes on with; None at first, where a prompt was read last.
        """
        ...

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order; a row may stand there more than once."""
        ...


class Grammar(Protocol):
    """Which tokens may come next."""

    def allowed(self) -> Tensor | None:
        """bool [N, V], True where a token may come next in a row; None where all may."""
        ...

    def advance(self, tokens_N: Tensor) -> None:
        """Takes in the tokens that were chosen."""
        ...

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        ...
