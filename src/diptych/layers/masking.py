"""Which patches and tokens a tower is given when some are dropped at random, as a function of each sample's seed.

FLIP (Li et al. 2022, arXiv 2212.00794, section 3): what is dropped is not replaced by anything; what is kept goes
through the tower with its own position. Rows of a batch keep equally many patches, so nothing is padded.

B batch, P patches, K kept, T tokens, J kept tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.seeding import hash_to_int


def number_kept(count: int, ratio: float, least: int = 0) -> int:
    """floor(count (1 - ratio)), and not less than `least`: what stays when a share `ratio` is dropped."""
    return max(math.floor(count * (1 - ratio) + 1e-9), least)  # 10 * (1 - 0.9) is a little less than 1


def patches_kept(patches: int, ratio: float) -> int:
    """How many patches stay.

    Raises:
        ConfigError: none would.
    """
    kept = number_kept(patches, ratio)
    if kept < 1:
        raise ConfigError(
            f"masking {ratio:.0%} of {patches} patches leaves none: mask at most {1 - 1 / patches:.4g}, or take "
            f"smaller patches"
        )
    return kept


def kept_patches(seeds: Sequence[int], patches: int, kept: int, purpose: str = "patches") -> Tensor:
    """Places [B, K], ascending, of the patches that stay; row i a function of seeds[i] alone.

    Args:
        patches: P.
        kept: K.
        purpose: another one is another draw from the same seeds.
    """
    return _random_keys(seeds, patches, purpose).argsort(1)[:, :kept].sort(1).values


class KeptTokens(NamedTuple):
    """What is left of rows of tokens, in their order.

    Attributes:
        tokens_BJ: what is beyond a row's length has no meaning.
        lengths_B: tokens that count.
        places_BJ: where each was, for its position.
    """

    tokens_BJ: Tensor
    lengths_B: Tensor
    places_BJ: Tensor


def kept_tokens(
    seeds: Sequence[int], tokens_BT: Tensor, lengths_B: Tensor, ratio: float, first: int, context: int | None = None
) -> KeptTokens:
    """Rows of tokens without some of what is between start and end, at random.

    Args:
        seeds: a row's draw is a function of its own alone.
        tokens_BT, lengths_B: as a text tower takes them, ending in an end token.
        ratio: the share that is dropped; floor(n (1 - ratio)) of n tokens stay, at least one.
        first: where the text begins: 1 after a start token, else 0.
        context: the longest row there can be, to drop its padding first: the share is one of the context, and a text
            that is shorter than what stays of it loses nothing.
    """
    places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    is_body_BT = (places_T >= first) & (places_T < lengths_B[:, None] - 1)
    body_B = is_body_BT.sum(1)
    kept = [_kept_of(n, ratio, None if context is None else context - first - 1) for n in body_B.tolist()]
    kept_B = torch.tensor(kept, device=tokens_BT.device)
    keys_BT = _random_keys(seeds, tokens_BT.shape[1], "tokens").to(tokens_BT.device)
    rank_BT = keys_BT.masked_fill(~is_body_BT, 2.0).argsort(1).argsort(1)  # among the body's tokens, by their keys
    at_ends_BT = (places_T < first) | (places_T == lengths_B[:, None] - 1)
    stays_BT = at_ends_BT | (is_body_BT & (rank_BT < kept_B[:, None]))
    lengths_B = stays_BT.sum(1)
    places_BJ = (~stays_BT).to(torch.int8).argsort(dim=1, stable=True)[:, : int(lengths_B.max())]
    return KeptTokens(tokens_BT.gather(1, places_BJ), lengths_B, places_BJ)


def _kept_of(tokens: int, ratio: float, room: int | None) -> int:
    """How many of so many tokens stay; with `room`, the padding up to it goes first."""
    return min(number_kept(tokens if room is None else room, ratio, 1), tokens)


def _random_keys(seeds: Sequence[int], count: int, purpose: str) -> Tensor:
    """Uniform numbers [B, count] in [0, 1)."""
    return torch.stack([torch.rand(count, generator=_generator(seed, purpose)) for seed in seeds])


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(hash_to_int(seed, purpose))
