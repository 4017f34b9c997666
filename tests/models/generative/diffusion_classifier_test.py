"""The diffusion classifier on data whose exact scores are known, and the bound where the likelihood is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.models.generative._diffusion_classifier import (
    ClassifierConfig,
    bound_steps,
    likelihood_bound,
    spread_steps,
    text_scores,
)
from diptych.objectives.diffusion import NoiseSchedule, noised

SCHEDULE = NoiseSchedule()
KEPT = SCHEDULE.kept()
WIDTH = 64
"""Numbers of a point: the means differ in two of them, as captions do in a few pixels of a picture."""
MEANS = torch.zeros(6, WIDTH, dtype=torch.float64)
MEANS[:, :2] = torch.tensor([[2.0, 0.0], [-2.0, 0.5], [0.0, -2.0], [1.0, 2.0], [-1.5, -1.5], [3.0, 3.0]])


def noise_told(seen_N: Tensor, kept_N: Tensor, mean: Tensor, variance: float = 1.0) -> Tensor:
    """E[noise | x_t] of data from a Gaussian: (1 - a)^(1/2) (x_t - a^(1/2) mean) / (a variance + 1 - a)."""
    kept = kept_N[:, None]
    return (1 - kept).sqrt() * (seen_N - kept.sqrt() * mean) / (kept * variance + 1 - kept)


class Judge:
    """The errors of one point, counted.

    Args:
        shared: whether texts see the same noise.
    """

    def __init__(self, point: Tensor, trials: int, seed: int, shared: bool = True) -> None:
        self.point, self.calls, self.shared, self.seed = point, 0, shared, seed
        self.steps = torch.tensor(spread_steps(trials, SCHEDULE.steps))
        generator = torch.Generator().manual_seed(seed)
        self.noise = torch.randn(len(MEANS), trials, WIDTH, generator=generator, dtype=torch.float64)

    def __call__(self, texts: Sequence[int], trials: Sequence[int]) -> Tensor:
        self.calls += len(texts) * len(trials)
        kept, rows = KEPT[self.steps[list(trials)]], []
        for text in texts:
            noise = self.noise[0 if self.shared else text][list(trials)]
            seen = noised(self.point.expand(len(kept), WIDTH), noise, kept)
            rows.append((noise_told(seen, kept, MEANS[text]) - noise).square().mean(1))
        return torch.stack(rows)


def points(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(len(MEANS), (count,), generator=generator)
    return MEANS[labels] + torch.randn(count, WIDTH, generator=generator, dtype=torch.float64), labels


def accuracy(stages: tuple[tuple[int, int], ...], shared: bool = True) -> float:
    found, labels = points(300)
    right = 0
    for index, (point, label) in enumerate(zip(found, labels, strict=True)):
        judge = Judge(point, stages[-1][0], index, shared)
        right += int(text_scores(judge, len(MEANS), stages).argmax()) == int(label)
    return right / len(labels)


def test_with_exact_scores_it_is_as_good_as_bayes() -> None:
    found, labels = points(300)
    bayes = float(((found[:, None] - MEANS).square().sum(-1).argmin(1) == labels).double().mean())
    assert 0.7 < bayes < 0.95
    assert abs(accuracy(((400, 1),)) - bayes) < 0.02


def test_the_same_noise_for_all_texts_makes_differences_certain() -> None:
    """Shared trials beat as many that are not, by the spread of the difference of two texts."""
    point = MEANS[0]

    def differences(shared: bool) -> Tensor:
        rows = [Judge(point, 8, seed, shared)([0, 1], range(8)).mean(1) for seed in range(100)]
        return torch.stack([row[1] - row[0] for row in rows])

    assert float(differences(True).std()) < 0.6 * float(differences(False).std())
    assert accuracy(((8, 1),)) > accuracy(((8, 1),), shared=False)


def test_giving_up_early_finds_the_same_best_for_less() -> None:
    found, _ = points(60)
    same, calls = 0, [0, 0]
    for index, point in enumerate(found):
        whole, pruned = (Judge(point, 64, index) for _ in range(2))
        best = int(text_scores(whole, len(MEANS), ((64, 1),)).argmax())
        same += int(text_scores(pruned, len(MEANS), ((8, 2), (64, 1))).argmax()) == best
        calls[0], calls[1] = calls[0] + whole.calls, calls[1] + pruned.calls
    assert same >= 57 and calls[1] < 0.5 * calls[0]


def test_a_text_that_was_given_up_keeps_its_distance() -> None:
    table = torch.tensor([[1.0, 1.0, 1.0, 3.0], [2.0, 2.0, 9.0, 9.0], [1.5, 1.5, 1.0, 2.0]])

    def errors(texts: Sequence[int], trials: Sequence[int]) -> Tensor:
        return table[list(texts)][:, list(trials)]

    assert text_scores(errors, 3, ((2, 2), (4, 1))).tolist() == pytest.approx([-1.5, -2.5, -1.5])
    assert text_scores(errors, 3, ((4, 1),)).tolist() == pytest.approx([-1.5, -5.5, -1.5])
    assert text_scores(errors, 0, ((4, 1),)).shape == (0,)


def test_steps_are_spread_and_so_are_the_first_few() -> None:
    steps = spread_steps(8, 1000)
    assert sorted(steps) == [62, 187, 312, 437, 562, 687, 812, 937]
    assert sorted(steps[:2]) == [62, 562] and sorted(steps[:4]) == [62, 312, 562, 812]
    assert bound_steps(3, 1000)[0] == 0 and len(set(bound_steps(2000, 1000))) == 1000


def test_the_bound_is_the_likelihood_where_the_network_is_exact() -> None:
    """Of a Gaussian with the exact noise the bound is tight but for the steps' size; a wrong network is below it."""
    steps = bound_steps(999, SCHEDULE.steps)
    kept = KEPT[steps]
    generator = torch.Generator().manual_seed(1)
    right, other = MEANS[0, :2], MEANS[1, :2]
    gaps, losses = [], []
    for _ in range(160):
        clean = right + 0.5 * torch.randn(2, generator=generator, dtype=torch.float64)
        noise = torch.randn(len(steps), 2, generator=generator, dtype=torch.float64)
        seen = noised(clean.expand(len(steps), 2), noise, kept)
        told = [(noise_told(seen, kept, said, 0.25) - noise).square().mean(1)[None] for said in (right, other)]
        bound, wrong = (float(likelihood_bound(clean[None], errors, KEPT)) for errors in told)
        exact = float(-((clean - right).square().sum() / 0.5) - math.log(2 * math.pi * 0.25))
        gaps.append(exact - bound)
        losses.append(bound - wrong)
    gap, loss = torch.tensor(gaps), torch.tensor(losses)
    error = float(gap.std()) / math.sqrt(len(gap))
    assert error < 0.15 and -3 * error < float(gap.mean()) < 0.3 + 3 * error
    assert float(loss.mean()) > 5


@pytest.mark.parametrize("stages", [(), ((8, 1), (8, 1)), ((8, 0),)])
def test_stages_that_make_no_sense_are_refused(stages: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ConfigError, match="stages"):
        ClassifierConfig(stages)
