"""k nearest neighbours on frozen image features.

Cosine similarity; the k nearest training pictures vote with weight exp(similarity / 0.07) (Wu et al. 2018, arXiv
1805.01978, section 3.4).

N training pictures, M test pictures, C classes.
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
from diptych.evaluation.probing import ProbeData, probe_data, probe_metrics

REQUIRES = ("encode_image",)
DATA = "scenes?objects=1"
TRAINS = True

_TEMPERATURE = 0.07
_CHUNK = 1024


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        k: neighbours that vote.
        train: the training pictures, where the data named are test pictures only: a reference as for `--data`, of which
            the split "train" is opened. "" takes the data's own "train" where the names of its files tell it apart;
            otherwise the data are parted by a hash of the key.
        test_share: of the pictures that are parted by a hash.
    """

    k: int = 20
    train: str = ""
    test_share: float = 0.3


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Lets the neighbours vote."""
    data = probe_data(model, source, settings.train, settings.test_share, records)
    return Outcome(probe_metrics(votes(data, settings.k), data, records))


def votes(data: ProbeData, k: int) -> Tensor:
    """[M, C]: the summed weights of the k nearest training pictures of each class.

    Pictures that tie for the last places share them, so that the order of the training pictures means nothing.
    """
    train_ND, test_MD = F.normalize(data.train_ND, dim=-1), F.normalize(data.test_MD, dim=-1)
    found = []
    for some_MD in torch.split(test_MD, _CHUNK):
        weight_MN = neighbour_weights(some_MD @ train_ND.T, min(k, len(train_ND)))
        found.append(weight_MN @ F.one_hot(data.train_N, len(data.names)).to(weight_MN.dtype))
    return torch.cat(found)


def neighbour_weights(similarity_MN: Tensor, k: int) -> Tensor:
    """[M, N]: exp(similarity / 0.07) of the k nearest, 0 of the others, shared among those that tie for the last."""
    last_M1 = similarity_MN.topk(k, dim=1).values[:, -1:]
    nearer_MN, tied_MN = similarity_MN > last_M1, similarity_MN == last_M1
    share_M1 = (k - nearer_MN.sum(1, keepdim=True)) / tied_MN.sum(1, keepdim=True)
    return (similarity_MN / _TEMPERATURE).exp() * (nearer_MN + tied_MN * share_M1)


def tiny_data(folder: Path) -> Source:
    """Sixty scenes of one object."""
    return Scenes("test", 60, SceneConfig(size=32, objects=1))
