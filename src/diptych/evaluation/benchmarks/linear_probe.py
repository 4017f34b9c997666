"""Linear probe: a logistic regression on frozen image features.

Multinomial, with an L2 penalty chosen on a fifth held out of the training part, fitted to convergence with L-BFGS; the
test part is looked at once.

N pictures, C classes, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.predictor import Predictor
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.probing import probe_data, probe_metrics

REQUIRES = ("encode_image",)
DATA = "scenes?objects=1"
TRAINS = True


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        train: the training pictures, where the data named are test pictures only: a reference as for `--data`, of which
            the split "train" is opened. "" takes the data's own "train" where the names of its files tell it apart;
            otherwise the data are parted by a hash of the key.
        test_share: of the pictures that are parted by a hash.
        penalties: tried on the held-out fifth.
    """

    train: str = ""
    test_share: float = 0.3
    penalties: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Fits and tests."""
    data = probe_data(model, source, settings.train, settings.test_share, records)
    mean_D, std_D = data.train_ND.mean(0), data.train_ND.std(0).clamp_min(1e-6)
    train_ND, test_MD = (data.train_ND - mean_D) / std_D, (data.test_MD - mean_D) / std_D
    penalty = _chosen(train_ND, data.train_N, len(data.names), settings.penalties, records.seed)
    weight_CD, bias_C = fit(train_ND, data.train_N, len(data.names), penalty)
    metrics = probe_metrics(test_MD.double() @ weight_CD.T + bias_C, data, records)
    return Outcome(metrics, {"penalty": penalty})


def _chosen(x_ND: Tensor, y_N: Tensor, classes: int, penalties: tuple[float, ...], seed: int) -> float:
    """The penalty with the best accuracy on a fifth of the training part; the strongest of equals."""
    order = torch.randperm(len(y_N), generator=torch.Generator().manual_seed(seed))
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]
    if not len(held):
        return max(penalties)
    accuracy = {}
    for penalty in sorted(penalties, reverse=True):
        weight_CD, bias_C = fit(x_ND[rest], y_N[rest], classes, penalty)
        accuracy[penalty] = float(((x_ND[held].double() @ weight_CD.T + bias_C).argmax(1) == y_N[held]).float().mean())
    return max(accuracy, key=lambda penalty: accuracy[penalty])


def fit(x_ND: Tensor, y_N: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """The weights [C, D] and bias [C] that minimise mean cross-entropy + penalty / 2 * |weights|^2, in float64."""
    x_ND = x_ND.double()
    weight_CD = torch.zeros(classes, x_ND.shape[1], dtype=torch.float64, requires_grad=True)
    bias_C = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_CD, bias_C], max_iter=300, history_size=20, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x_ND @ weight_CD.T + bias_C, y_N) + penalty / 2 * weight_CD.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight_CD.detach(), bias_C.detach()


def tiny_data(folder: Path) -> Source:
    """Sixty scenes of one object."""
    return Scenes("test", 60, SceneConfig(size=32, objects=1))
