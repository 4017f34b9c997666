"""A diffusion model as a judge: which text makes a picture's noise easiest to tell?

Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv 2303.16203: the text with the smallest
mean error of the noise, at evenly spaced steps, with the same steps and the same noise for all texts of a picture;
texts that are far behind after a few trials are given up. The bound of the likelihood is that of Ho et al. 2020 as in
Kingma et al. 2021 (arXiv 2107.00630, equation 13), whose sum over the steps is estimated at evenly spaced ones.

M texts, K trials, S steps of training, N pictures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.core.errors import ConfigError

Errors = Callable[[Sequence[int], Sequence[int]], Tensor]
"""Texts and trials, by number -> the mean squared error of the noise [texts, trials], of one picture."""


@dataclass(frozen=True)
class ClassifierConfig:
    """How texts are tried.

    Attributes:
        stages: (trials, kept) one after another: after so many trials in all only the best few texts go on. With one
            stage every text is tried as often, and its score does not depend on the others; ((8, 5), (32, 1)) costs
            little more than a quarter of ((32, 1),) where there are many texts, and nearly always finds the same best.
        bound: trials of the likelihood's bound.
    """

    stages: tuple[tuple[int, int], ...] = ((16, 1),)
    bound: int = 32

    def __post_init__(self) -> None:
        trials = [one for one, _ in self.stages]
        if not trials or trials != sorted(set(trials)) or min(*trials, *(kept for _, kept in self.stages)) < 1:
            raise ConfigError(f"stages {self.stages} must be of more trials each time, and keep at least one text")
        if self.bound < 1:
            raise ConfigError(f"a bound of {self.bound} trials: give at least 1")

    @property
    def trials(self) -> int:
        """K."""
        return self.stages[-1][0]


def spread_steps(trials: int, steps: int) -> list[int]:
    """K steps in the middle of equal shares of all, in an order in which the first few are spread widely too."""
    middles = [int((trial + 0.5) * steps / trials) for trial in range(trials)]
    return [middles[place] for place in sorted(range(trials), key=_reversed_bits)]


def _reversed_bits(number: int) -> float:
    """The van der Corput sequence: 0, 1/2, 1/4, 3/4 ..."""
    value, digit = 0.0, 0.5
    while number:
        value += digit * (number & 1)
        number, digit = number >> 1, digit / 2
    return value


def text_scores(errors: Errors, texts: int, stages: Sequence[tuple[int, int]]) -> Tensor:
    """Minus the mean error of each text [M], float64.

    A text that was given up keeps its distance from the best one at that time, on the trials that both had: so all
    scores are differences over shared trials from the best text's mean over all of its own.
    """
    left = list(range(texts))
    seen: dict[int, list[Tensor]] = {text: [] for text in left}
    behind = torch.zeros(texts, dtype=torch.float64)
    tried = 0
    for trials, kept in stages:
        found = errors(left, range(tried, trials)).double().cpu()
        for text, row in zip(left, found, strict=True):
            seen[text].append(row)
        tried = trials
        means = {text: float(torch.cat(seen[text]).mean()) for text in left}
        order = sorted(left, key=lambda text: (means[text], text))
        for text in order:
            behind[text] = means[text] - means[order[0]]
        left = sorted(order[:kept])
        if len(left) == 1:
            break
    best = min(left, key=lambda text: (behind[text].item(), text)) if left else 0
    return -(torch.cat(seen[best]).mean() + behind) if texts else behind


def bound_steps(trials: int, steps: int) -> list[int]:
    """The first step, which is counted whole, then one in the middle of each equal share of the others."""
    shares = min(trials, steps - 1)
    return [0, *(1 + int((share + 0.5) * (steps - 1) / shares) for share in range(shares))]


def likelihood_bound(clean_N: Tensor, errors_NK: Tensor, kept_S: Tensor) -> Tensor:
    """A lower bound of log p(clean) of each row [N], in nats, float64.

    - log p <= KL(q(x_S | x_0) || N(0, 1)) + D/2 log(2 pi v_0) + D/2 e_0 + D/2 sum_t (r_{t-1} / r_t - 1) e_t

    with r_t = a_t / (1 - a_t), v_0 = 1 / r_0, D numbers a row and e_t the mean squared error of the noise at step t.

    Args:
        clean_N: the data.
        errors_NK: at `bound_steps`.
        kept_S: a_t.
    """
    rows, errors = clean_N.double().flatten(1).cpu(), errors_NK.double().cpu()
    numbers, kept_S = rows.shape[1], kept_S.double().cpu()
    last = kept_S[-1]
    prior_N = 0.5 * (last * rows.square() - last - torch.log1p(-last)).sum(1)
    ratio_S = kept_S / (1 - kept_S)
    weights = ratio_S[:-1] / ratio_S[1:] - 1
    edges = torch.linspace(0, len(weights), errors.shape[1]).round().long()
    shares = [weights[begin:end].sum() for begin, end in itertools.pairwise(edges.tolist())]
    spread = torch.stack([torch.ones((), dtype=torch.float64), *shares])
    first = 0.5 * numbers * torch.log(2 * math.pi / ratio_S[0])
    return -(prior_N + first + 0.5 * numbers * (errors * spread).sum(1))
