"""Vectors by the nearest of K learned codes, with a gradient that passes straight through.

van den Oord et al. 2017, "Neural Discrete Representation Learning" (VQ-VAE), arXiv 1711.00937: equation 3 and, for the
codebook by moving averages, appendix A.1. The gradient that reaches the chosen code's place goes to the encoder as it
is; the codebook term pulls codes to the encoder's vectors, the commitment term pulls the vectors to their codes, and
beta stands on the commitment (in taming-transformers and diffusers it stands on the codebook term by an old mistake).

What a step learns of its vectors (how often a code was chosen, the sum of its vectors, candidates for restarts) is
kept in buffers until `after_step`, which adds it up over processes; so averages and restarts are functions of the
global batch, however it is cut and spread.

With `l2` vectors and codes are brought to length one first, so the nearest code is the one at the smallest angle (Yu
et al. 2021, "Vector-quantized Image Modeling with Improved VQGAN", ViT-VQGAN, arXiv 2110.04627, section 3.2): no vector
is then far from all codes, and more of them are used.

B pictures, C width of a code, h rows, w columns, N vectors, K codes, R candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from diptych.core.errors import ConfigError
from diptych.core.seeding import hash_to_int
from diptych.distributed.gather import gather_rows, sum_over_ranks

_DISTANCES_AT_ONCE = 1 << 22
_SMALLEST_USAGE = 1e-6


@dataclass(frozen=True)
class QuantizerConfig:
    """A codebook and how it learns.

    Attributes:
        codes: how many there are (K).
        width: of a code (C).
        learned: "gradient", by the codebook term of the loss; "average", by moving averages of the vectors that chose
            each code, in which case there is no such term.
        beta: weight of the commitment term.
        decay: of the moving averages, of vectors and of how often a code is chosen.
        restart_every: steps between restarts of codes that are hardly chosen; 0 for none.
        restart_below: a code is restarted where it is chosen less often than this share of the mean.
        l2: whether vectors and codes have length one: lookup by angle instead of by distance.
    """

    codes: int = 512
    width: int = 64
    learned: Literal["gradient", "average"] = "average"
    beta: float = 0.25
    decay: float = 0.99
    restart_every: int = 0
    restart_below: float = 0.1
    l2: bool = False

    def __post_init__(self) -> None:
        if min(self.codes, self.width) < 1 or not 0 < self.decay < 1:
            raise ConfigError(f"{self.codes} codes of width {self.width} with decay {self.decay} make no codebook")
        if min(self.beta, self.restart_every) < 0 or not 0 <= self.restart_below < 1:
            raise ConfigError(
                f"quantizer.beta {self.beta} and restart_every {self.restart_every} must not be negative, and "
                f"restart_below {self.restart_below} is a share of the mean: from 0 to less than 1"
            )


class Quantized(NamedTuple):
    """Vectors and the codes in their places.

    Attributes:
        vectors_BCHW: the codes, with the gradient of what they replace (straight-through).
        codes_Bhw: int64, which code.
        codebook, commitment: per picture [B] the mean squared distance, with the gradient of one side only: the
            codes', and the encoder's. Without beta.
    """

    vectors_BCHW: Tensor
    codes_Bhw: Tensor
    codebook_B: Tensor
    commitment_B: Tensor


class Quantizer(nn.Module):
    """A codebook [K, C]: a parameter where it learns by gradient, a buffer where it learns by averages."""

    codebook_KC: Tensor
    usage_K: Tensor
    sums_KC: Tensor
    steps: Tensor
    step_usage_K: Tensor
    step_sums_KC: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        codebook_KC = torch.empty(config.codes, config.width).uniform_(-1 / config.codes, 1 / config.codes)
        if config.learned == "gradient":
            self.codebook_KC = nn.Parameter(codebook_KC)
        else:
            self.register_buffer("codebook_KC", codebook_KC)
            self.register_buffer("sums_KC", torch.zeros_like(codebook_KC))
            self.register_buffer("step_sums_KC", torch.zeros_like(codebook_KC), persistent=False)
        self.register_buffer("usage_K", torch.zeros(config.codes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step_usage_K", torch.zeros(config.codes), persistent=False)
        self._candidates: list[tuple[Tensor, Tensor]] = []

    def forward(self, z_BCHW: Tensor, seeds: Sequence[int] | None = None) -> Quantized:
        """The nearest codes; in a training pass also remembers what `after_step` needs.

        Args:
            z_BCHW: the encoder's vectors; computed on in the codebook's precision, under autocast too.
            seeds: one a picture: which of its vectors may take the place of a code that nobody chooses.
        """
        with torch.autocast(z_BCHW.device.type, enabled=False):
            z_BhwC = self._placed(z_BCHW.to(self.codebook_KC.dtype).permute(0, 2, 3, 1))
            codes_Bhw = self.nearest(z_BhwC)
            chosen_BhwC = self.lookup(codes_Bhw)
            if self.training and torch.is_grad_enabled():
                self._remember(z_BhwC.detach(), codes_Bhw, seeds)
            vectors_BhwC = z_BhwC + (chosen_BhwC - z_BhwC).detach()
            codebook_B = (chosen_BhwC - z_BhwC.detach()).square().flatten(1).mean(1)
            commitment_B = (chosen_BhwC.detach() - z_BhwC).square().flatten(1).mean(1)
        return Quantized(vectors_BhwC.permute(0, 3, 1, 2), codes_Bhw, codebook_B, commitment_B)

    @torch.no_grad()
    def nearest(self, z_BhwC: Tensor) -> Tensor:
        """The code [...] at the smallest squared distance of each vector [..., C]; the lowest index of equals.

        |z|^2 is the same for all codes and is left out; rows are taken in pieces, so that the distances of a large
        batch to a large codebook are never in memory at once.
        """
        codebook_KC = self._placed(self.codebook_KC.detach())
        rows_NC = self._placed(z_BhwC.reshape(-1, codebook_KC.shape[1]))
        squares_K = codebook_KC.square().sum(1)
        size = max(1, _DISTANCES_AT_ONCE // len(codebook_KC))
        pieces = torch.split(rows_NC, size)
        found = [torch.addmm(squares_K, some_NC, codebook_KC.T, alpha=-2).argmin(1) for some_NC in pieces]
        return torch.cat(found).view(z_BhwC.shape[:-1])

    def lookup(self, codes_Bhw: Tensor) -> Tensor:
        """The vectors [..., C] of codes."""
        return self._placed(nn.functional.embedding(codes_Bhw, self.codebook_KC))

    def _placed(self, vectors: Tensor) -> Tensor:
        """Vectors [..., C] where they are compared: on the sphere with `l2`, else where they are."""
        return nn.functional.normalize(vectors, dim=-1) if self.config.l2 else vectors

    @torch.no_grad()
    def _remember(self, z_BhwC: Tensor, codes_Bhw: Tensor, seeds: Sequence[int] | None) -> None:
        codes_N = codes_Bhw.flatten()
        self.step_usage_K.index_add_(0, codes_N, torch.ones_like(codes_N, dtype=self.step_usage_K.dtype))
        if self.config.learned == "average":
            self.step_sums_KC.index_add_(0, codes_N, z_BhwC.reshape(-1, z_BhwC.shape[-1]))
        if seeds is not None and self._restarts_next():
            self._candidates.append(_candidates(z_BhwC, seeds))

    def _restarts_next(self) -> bool:
        every = self.config.restart_every
        return every > 0 and int(self.steps) % every == 0

    @torch.no_grad()
    def after_step(self) -> None:
        """Takes in what the passes of this step saw on all processes; every process calls it after every step."""
        usage_K = sum_over_ranks(self.step_usage_K)
        restarts = self._restarts_next()
        self.usage_K.lerp_(usage_K, 1 - self.config.decay)
        if self.config.learned == "average":
            self.sums_KC.lerp_(sum_over_ranks(self.step_sums_KC), 1 - self.config.decay)
            seen_K1 = (self.usage_K > _SMALLEST_USAGE)[:, None]
            means_KC = self.sums_KC / self.usage_K.clamp(min=_SMALLEST_USAGE)[:, None]
            self.codebook_KC.copy_(torch.where(seen_K1, means_KC, self.codebook_KC))
            self.step_sums_KC.zero_()
        if restarts:
            self._restart()
        self.step_usage_K.zero_()
        self._candidates.clear()
        self.steps += 1

    def _restart(self) -> None:
        """Puts vectors of this step in the place of codes that are hardly chosen, as often as there are both."""
        vectors_RC = self._shared_candidates()
        mean = self.usage_K.mean()
        dead = torch.nonzero(self.usage_K < self.config.restart_below * mean)[:, 0][: len(vectors_RC)]
        vectors_RC = vectors_RC[: len(dead)]
        codebook_KC = _whole(self.codebook_KC.detach()).clone()
        codebook_KC[dead] = vectors_RC
        _write(self.codebook_KC.detach(), codebook_KC)
        # As if chosen as often as the mean, so that it is not declared dead again before it could be chosen.
        self.usage_K[dead] = mean
        if self.config.learned == "average":
            self.sums_KC[dead] = mean * vectors_RC

    def _shared_candidates(self) -> Tensor:
        """Those of all processes, in an order that depends on the pictures' seeds alone."""
        empty = (self.usage_K.new_zeros(0, dtype=torch.int64), self.usage_K.new_zeros(0, self.config.width))
        orders, vectors = zip(*(self._candidates or [empty]), strict=True)
        order_R, vectors_RC = gather_rows(torch.cat(orders)), gather_rows(torch.cat(vectors))
        return vectors_RC[order_R.argsort(stable=True)]

    def statistics(self) -> dict[str, float]:
        """How the codes were used over about the last 1 / (1 - decay) steps of training.

        Returns:
            "perplexity": exp of the entropy of how often each is chosen, K at uniform use; "codes_used": the share of
            codes that were chosen at all.
        """
        total = float(self.usage_K.sum())
        if total == 0:
            return {"perplexity": 0.0, "codes_used": 0.0}
        share_K = self.usage_K.double() / total
        entropy = -float(torch.special.xlogy(share_K, share_K).sum())
        once_then = (1 - self.config.decay) * self.config.decay ** (1 / (1 - self.config.decay))
        return {
            "perplexity": float(torch.tensor(entropy).exp()),
            "codes_used": float((self.usage_K >= once_then).double().mean()),
        }


def _candidates(z_BhwC: Tensor, seeds: Sequence[int], most: int = 4) -> tuple[Tensor, Tensor]:
    """Some vectors of every picture, evenly spaced from a random place on, and a number each for their order.

    Both are functions of the picture's own seed.
    """
    rows_BNC = z_BhwC.flatten(1, 2)
    length = rows_BNC.shape[1]
    each = min(most, length)
    spaced = [which * (length // each) for which in range(each)]
    places = [[(hash_to_int("restart", seed) + step) % length for step in spaced] for seed in seeds]
    order = [hash_to_int("order of restarts", seed, which) for seed in seeds for which in range(each)]
    index_Be1 = torch.tensor(places, device=z_BhwC.device).view(len(seeds), each, 1)
    vectors_RC = rows_BNC.gather(1, index_Be1.expand(-1, -1, rows_BNC.shape[2])).flatten(0, 1)
    return torch.tensor(order, dtype=torch.int64, device=z_BhwC.device), vectors_RC


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _write(target: Tensor, values: Tensor) -> None:
    """Copies into a tensor, however FSDP2 has sharded it."""
    if isinstance(target, DTensor):
        values = distribute_tensor(values, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(values)
