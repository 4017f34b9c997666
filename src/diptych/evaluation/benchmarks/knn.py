"""k nearest neighbours on frozen image features.

Cosine similarity; the k nearest training pictures vote with weight exp(similarity / 0.07) (Wu et al. 2018, arXiv
1805.01978, section 3.4).

M test pictures, C classes.
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

_TEMPERATURE = 0.07
_CHUNK = 1024


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        k: neighbours that vote.
        test_share: of the pictures, by a hash of the key, where no key lists are given.
        train_keys, test_keys: files of keys.
    """

    k: int = 20
    test_share: float = 0.3
    train_keys: str = ""
    test_keys: str = ""


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Lets the neighbours vote."""
    data = probe_data(model, source, settings.test_share, settings.train_keys, settings.test_keys, records)
    return Outcome(probe_metrics(votes(data, settings.k), data, records))


def votes(data: ProbeData, k: int) -> Tensor:
    """[M, C]: the summed weights of the k nearest training pictures of each class."""
    train_ND, test_MD = F.normalize(data.train_ND, dim=-1), F.normalize(data.test_MD, dim=-1)
    found = []
    for some_MD in torch.split(test_MD, _CHUNK):
        similarity, nearest = (some_MD @ train_ND.T).topk(min(k, len(train_ND)), dim=1)
        scores = torch.zeros(len(some_MD), len(data.names))
        found.append(scores.scatter_add_(1, data.train_N[nearest], (similarity / _TEMPERATURE).exp()))
    return torch.cat(found)


def tiny_data(folder: Path) -> Source:
    """Sixty scenes of one object."""
    return Scenes("test", 60, SceneConfig(size=32, objects=1))
