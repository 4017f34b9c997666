"""Which tokens of a text are hidden for a masked language model, as a function of each sample's seed.

Devlin et al. 2018, "BERT", arXiv 1810.04805, section 3.1: a share of the tokens is to be predicted; of these 80 % are
replaced by the mask token, 10 % by a random one, and 10 % stay as they are.

B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED
from diptych.core.seeding import hash_to_int
from diptych.data.words.tokenizer import Tokenizer

_MASKED, _RANDOM = 0.8, 0.9


class MaskedWords(NamedTuple):
    """What a masked language model reads, and what it is asked.

    Attributes:
        tokens_BT: with some replaced.
        labels_BT: int64, the true id where one is asked for and `IGNORED` elsewhere.
    """

    tokens_BT: Tensor
    labels_BT: Tensor


def mask_words(
    seeds: Sequence[int], tokens_BT: Tensor, lengths_B: Tensor, tokenizer: Tokenizer, ratio: float = 0.15,
    purpose: str = "words",
) -> MaskedWords:  # fmt: skip
    """Hides a share of each text's tokens, at least one of a text that has any.

    Args:
        seeds: row i is drawn from seeds[i] alone, whatever its padding.
        lengths_B: what is beyond a row's length is padding.
        tokenizer: of the texts; its control tokens are never hidden and never put in.
        purpose: another one is another draw from the same seeds.

    Raises:
        ConfigError: the ratio is not a share that can be hidden, or the tokenizer has no mask token.
    """
    mask_id = require_mask(tokenizer)
    if not 0 < ratio <= 1:
        raise ConfigError(f"masking {ratio} of the words: give a share above 0 and up to 1")
    chance_BT, kind_BT, other_BT = _draws(seeds, tokens_BT.shape[1], tokenizer, purpose, tokens_BT.device)
    inside_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device) < lengths_B[:, None]
    control = torch.tensor(sorted(tokenizer.control_ids), device=tokens_BT.device)
    is_text_BT = inside_BT & ~torch.isin(tokens_BT, control)
    chance_BT = chance_BT.masked_fill(~is_text_BT, 2.0)
    asked_BT = (chance_BT < ratio) | ((chance_BT == chance_BT.min(1, keepdim=True).values) & is_text_BT)
    tokens = torch.where(asked_BT & (kind_BT < _MASKED), mask_id, tokens_BT)
    tokens = torch.where(asked_BT & (kind_BT >= _MASKED) & (kind_BT < _RANDOM), other_BT, tokens)
    return MaskedWords(tokens, torch.where(asked_BT, tokens_BT, IGNORED))


def require_mask(tokenizer: Tokenizer) -> int:
    """The id of the mask token.

    Raises:
        ConfigError: the tokenizer has none.
    """
    if tokenizer.mask_id is None:
        raise ConfigError(
            "this tokenizer has no mask token, which filling in words needs: fit one with mask=True, or name the "
            "token in special_tokens_map.json"
        )
    return tokenizer.mask_id


def _draws(
    seeds: Sequence[int], longest: int, tokenizer: Tokenizer, purpose: str, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Whether [B, T] and how [B, T] a token is hidden, in [0, 1), and a random id [B, T] that is no control token.

    Each place has numbers of its own, so that a longer padding does not move them.
    """
    allowed = tokenizer.text_ids
    rows = [torch.rand(longest, 3, generator=_generator(seed, purpose), dtype=torch.float64) for seed in seeds]
    draws_BT3 = torch.stack(rows)
    other_BT = allowed[(draws_BT3[..., 2] * len(allowed)).long()]
    return draws_BT3[..., 0].float().to(device), draws_BT3[..., 1].float().to(device), other_BT.to(device)


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(hash_to_int(seed, purpose))
