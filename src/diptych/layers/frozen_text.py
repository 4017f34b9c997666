"""A text encoder of T5's kind from a `transformers` folder: every token's state, never trained.

Raffel et al. 2019, "T5", arXiv 1910.10683; frozen as in Imagen (arXiv 2205.11487, section 2.1). B batch, T tokens, X
width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.errors import CheckpointError, MissingExtra

_UNREADABLE = (OSError, ValueError, RuntimeError)


class T5Text(nn.Module):
    """T5's encoder; its decoder, where the folder has one, is left out."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(requires_grad=False).eval()

    @classmethod
    def read(cls, folder: Path) -> T5Text:
        """Of a folder with weights.

        Raises:
            CheckpointError: the folder holds no T5, or a damaged one.
        """
        try:
            return cls(_library().T5EncoderModel.from_pretrained(folder, local_files_only=True))
        except _UNREADABLE as error:
            reason = f"{error}".partition("\n")[0]
            raise CheckpointError(f"{folder} holds no T5 encoder that can be read: {reason}") from error

    @classmethod
    def fresh(cls, folder: Path) -> T5Text:
        """Of a `config.json` alone: with random weights.

        Raises:
            CheckpointError: there is no such file, or a damaged one.
        """
        library = _library()
        try:
            return cls(library.T5EncoderModel(library.T5Config.from_pretrained(folder)))
        except _UNREADABLE as error:
            raise CheckpointError(f"{folder} holds no configuration of a T5 encoder") from error

    def write_config(self, folder: Path) -> None:
        """What `fresh` reads."""
        config: Any = self.encoder.config
        config.save_pretrained(folder)

    @property
    def width(self) -> int:
        """X."""
        config: Any = self.encoder.config
        return int(config.d_model)

    @torch.no_grad()
    def tokens(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Every token's state [B, T, X]; on padding it has no meaning."""
        places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        seen_BT = (places_T < lengths_B[:, None]).long()
        states: Tensor = self.encoder(input_ids=tokens_BT, attention_mask=seen_BT).last_hidden_state
        return states


def _library() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "transformers", "a text encoder from a folder") from error
    return transformers
