"""A rate-distortion curve of a representation: how many bits of its vectors are needed, and for what.

Dubois et al. 2021, "Lossy Compression for Lossless Prediction" (arXiv 2106.10800), minimise rate + beta * distortion
over codes of a representation z, where the distortion need not be a reconstruction:

    "text"    what is left to know of which text of a batch belongs to the picture: log2 B - InfoNCE bound, in bits
    "error"   squared error of z, as a share of the variance of those that the code was fitted to

The code of one beta: principal axes, a learned step for each axis, rounding, a learned density for the bits, a learned
gain for each axis. Fitted with noise in place of rounding, then density and gain once more with rounding; all betas at
once, each on its own. Measured on other vectors, rounded.

S betas, N vectors, B a batch of them, D width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError, DataError
from diptych.core.seeding import hash_to_int
from diptych.evaluation.metrics.transform import Axes, principal_axes
from diptych.objectives.entropy_model import MixturePrior, bits, rounded, standard_prior, with_noise

Distortion = Literal["text", "error"]
ROUNDED_SHARE = 0.3
"""Of the steps, the last ones, which are taken with rounding."""


@dataclass(frozen=True)
class Pairs:
    """Vectors of pictures and of their texts, row by row."""

    image_ND: Tensor
    text_ND: Tensor


@dataclass(frozen=True)
class CurvePoint:
    """One code, measured on vectors that it was not fitted to.

    Attributes:
        beta: the price of a unit of distortion, in bits.
        rate: bits a picture.
        distortion: bits about the text among B, or squared error as a share of the variance.
    """

    beta: float
    rate: float
    distortion: float


@dataclass(frozen=True)
class Fitting:
    """How codes are fitted.

    Attributes:
        batch: B, of fitting and of the uncertainty that is measured.
        channels: the most axes to code; the rest is lost.
        steps: of Adam.
    """

    batch: int = 128
    channels: int = 32
    steps: int = 200
    learning_rate: float = 0.05
    seed: int = 0


def rate_distortion_curve(
    fit: Pairs, test: Pairs, betas: Sequence[float], distortion: Distortion, fitting: Fitting
) -> list[CurvePoint]:
    """A code for each beta.

    Args:
        fit, test: pairs that the codes are fitted to, and others that they are measured on.
        betas: bits for a bit of uncertainty, or for the whole variance as squared error.

    Raises:
        ConfigError: no beta, or one that is not positive.
        DataError: fewer pairs than a batch.
    """
    if not betas or min(betas) <= 0:
        raise ConfigError(f"a curve needs betas above 0, one a point; got {tuple(betas)}")
    if min(len(fit.image_ND), len(test.image_ND)) < fitting.batch:
        raise DataError(
            f"{len(fit.image_ND)} pairs to fit and {len(test.image_ND)} to measure do not fill a batch of "
            f"{fitting.batch}: give more pairs or a smaller batch"
        )
    axes = principal_axes(fit.image_ND, fitting.channels)
    code = _Code(axes, torch.tensor(betas, dtype=torch.float32), distortion)
    _fit(code, _Coded(axes, fit), fitting)
    return _measure(code, _Coded(axes, test), betas, fitting)


class _Rows(NamedTuple):
    """Some pairs in a code's coordinates."""

    v_BC: Tensor
    text_BC: Tensor
    offset_B: Tensor
    lost_B: Tensor


class _Coded:
    """Pairs in a code's coordinates, in float32."""

    def __init__(self, axes: Axes, pairs: Pairs) -> None:
        image_ND, text_ND = pairs.image_ND.double(), pairs.text_ND.double()
        direction_NC, offset_N = axes.of_texts(text_ND)
        columns = (axes.coordinates(image_ND), direction_NC, offset_N, axes.lost(image_ND))
        self.all = _Rows(*(column.float() for column in columns))

    def rows(self, chosen_B: Tensor) -> _Rows:
        return _Rows(*(column[chosen_B] for column in self.all))


class _Code(nn.Module):
    """The codes of all betas."""

    def __init__(self, axes: Axes, beta_S: Tensor, distortion: Distortion) -> None:
        super().__init__()
        self.distortion, self.beta_S = distortion, beta_S
        self.weight_C = (axes.deviation_C.square() / max(axes.variance, 1e-12)).float()
        self.variance = max(axes.variance, 1e-12)
        step_SC = self._first_steps()
        self.log_step_SC = nn.Parameter(step_SC.log())
        self.gain_SC = nn.Parameter(1 / (1 + step_SC.square() / 12))  # Wiener's, for noise of a step's width
        self.log_scale_S = nn.Parameter(torch.full_like(beta_S, math.log(10.0)))
        prior = standard_prior(*step_SC.shape)
        self.prior = nn.ParameterList(prior)

    def _first_steps(self) -> Tensor:
        """For squared error those that are best at high rates, where it is step^2 / 12: sqrt(6 / (beta ln 2))."""
        if self.distortion == "text":
            return torch.ones(len(self.beta_S), len(self.weight_C))
        level_S = (6 / (self.beta_S * math.log(2))).sqrt()
        return level_S[:, None] / self.weight_C.sqrt()

    def forward(self, v_BC: Tensor, noise_SBC: Tensor | None) -> tuple[Tensor, Tensor]:
        """Bits [S, B] and the decoded coordinates [S, B, C]; with None in place of noise, rounded."""
        step_SC = self.log_step_SC.exp()
        if noise_SBC is None:
            step_SC = step_SC.detach()
            coded_SBC = rounded(v_BC, step_SC)
        else:
            coded_SBC = with_noise(v_BC, step_SC, noise_SBC)
        return bits(coded_SBC, step_SC, MixturePrior(*self.prior)), coded_SBC * self.gain_SC[:, None]

    def distortion_of(self, decoded_SBC: Tensor, pairs: _Rows) -> Tensor:
        """What the code is fitted and measured by, [S], of a batch."""
        if self.distortion == "text":
            return self._uncertainty(decoded_SBC, pairs.text_BC, pairs.offset_B)
        return self._error(decoded_SBC, pairs.v_BC, pairs.lost_B)

    def _uncertainty(self, decoded_SBC: Tensor, text_BC: Tensor, offset_B: Tensor) -> Tensor:
        """InfoNCE [S] of the batch, which text belongs to the picture, in bits."""
        scores_SBB = self.log_scale_S.exp()[:, None, None] * (decoded_SBC @ text_BC.T + offset_B)
        own_SB = scores_SBB.diagonal(dim1=1, dim2=2)
        return (scores_SBB.logsumexp(2) - own_SB).mean(1) / math.log(2)

    def _error(self, decoded_SBC: Tensor, v_BC: Tensor, lost_B: Tensor) -> Tensor:
        """Squared error [S] as a share of the variance."""
        return ((decoded_SBC - v_BC).square() @ self.weight_C).mean(1) + lost_B.mean() / self.variance


def _fit(code: _Code, data: _Coded, fitting: Fitting) -> None:
    optimizer = torch.optim.Adam(code.parameters(), fitting.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, fitting.steps)
    generator = torch.Generator().manual_seed(hash_to_int("code", fitting.seed))
    shape = (len(code.beta_S), fitting.batch, len(code.weight_C))
    for step in range(fitting.steps):
        pairs = data.rows(torch.randperm(len(data.all.v_BC), generator=generator)[: fitting.batch])
        with_rounding = step >= fitting.steps * (1 - ROUNDED_SHARE)
        noise_SBC = None if with_rounding else torch.rand(shape, generator=generator) - 0.5
        bits_SB, decoded_SBC = code(pairs.v_BC, noise_SBC)
        # A sum over betas: each has parameters of its own, and Adam scales each by itself.
        loss = (bits_SB.mean(1) + code.beta_S * code.distortion_of(decoded_SBC, pairs)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _measure(code: _Code, data: _Coded, betas: Sequence[float], fitting: Fitting) -> list[CurvePoint]:
    """Over whole batches of the pairs in their order."""
    whole = len(data.all.v_BC) // fitting.batch
    rates, distortions = [], []
    for members_B in torch.arange(whole * fitting.batch).view(whole, -1):
        pairs = data.rows(members_B)
        bits_SB, decoded_SBC = code(pairs.v_BC, None)
        rates.append(bits_SB.mean(1).clamp_min(0))  # a sum of logs may end a rounding error below
        distortions.append(code.distortion_of(decoded_SBC, pairs))
    columns = (torch.stack(rates).mean(0).tolist(), torch.stack(distortions).mean(0).tolist())
    return [CurvePoint(float(beta), *point) for beta, *point in zip(betas, *columns, strict=True)]
