"""Frozen features with classes, split into training and test: shared by the linear probe and nearest neighbours.

N training pictures, M test pictures, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diptych.capabilities.predictor import ImageEncoder
from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.seeding import unit_interval
from diptych.core.source import Source
from diptych.data.open import open_source
from diptych.evaluation.benchmark import Records
from diptych.evaluation.encoding import encode_images
from diptych.evaluation.metrics.ranking import ranking
from diptych.evaluation.statistics import class_mean_metric, mean_metric


@dataclass(frozen=True)
class ProbeData:
    """Features and class indices of both parts, and the test samples."""

    train_ND: Tensor
    train_N: Tensor
    test_MD: Tensor
    test_M: Tensor
    names: list[str]
    test_samples: list[Sample]


TEST_SALT = "probe"
"""The word that is hashed with a key to decide which part it belongs to."""


def probe_data(model: ImageEncoder, source: Source, train: str, test_share: float, records: Records) -> ProbeData:
    """Encodes every picture once.

    Args:
        source: the test pictures; where `train` is "", both parts, told apart by a hash of the key.
        train: a reference to the training pictures; of what it names, the "train" split.

    Raises:
        DataError: no such data, fewer than two classes, a part without samples, or pictures that are in both parts.
    """
    wanted = list(records.samples(source))
    test_keys = {sample.key for sample in wanted}
    if train:
        training = list(records.samples(open_source(train, "train")))
        if both := [sample.key for sample in training if sample.key in test_keys]:
            raise DataError(f"{len(both)} pictures of {source.name} are also training pictures ('{both[0]}')")
        wanted = training + wanted
    else:
        test_keys = {key for key in test_keys if unit_interval(TEST_SALT, key) < test_share}
    features_ND, samples = encode_images(model, [s for s in wanted if _has_class(s, records)], records)
    test = np.array([sample.key in test_keys for sample in samples], bool)
    names = sorted({str(sample.meta["class"]) for sample in samples})
    classes_N = torch.tensor([names.index(str(sample.meta["class"])) for sample in samples])
    if len(names) < 2 or test.all() or not test.any():
        raise DataError(
            f"{source.name}: {len(names)} classes, {int((~test).sum())} training and {int(test.sum())} test pictures; "
            f"a probe needs at least two classes and both parts"
        )
    chosen = [sample for sample, in_test in zip(samples, test, strict=True) if in_test]
    return ProbeData(features_ND[~test], classes_N[~test], features_ND[test], classes_N[test], names, chosen)


def _has_class(sample: Sample, records: Records) -> bool:
    if sample.meta.get("class") is not None:
        return True
    records.fail(BadSample(sample.key, "no class"))
    return False


def probe_metrics(scores_MC: Tensor, data: ProbeData, records: Records) -> dict[str, Metric]:
    """Top-1 and the mean over classes on the test part, with a record for each picture."""
    scores = scores_MC.double().numpy()
    truth_M = data.test_M.numpy()
    found = ranking(scores, truth_M[:, None] == np.arange(len(data.names)))
    top1, predicted = found.strict(1), scores.argmax(1)
    records.add(
        *(
            SampleRecord(sample.key, output=data.names[predicted[i]], values={"top1": float(top1[i])})
            for i, sample in enumerate(data.test_samples)
        )
    )
    chance = 1 / len(data.names)
    return {
        "top1": mean_metric(top1.tolist(), None, chance, records.seed),
        "top1_expected": mean_metric(found.expected(1).tolist(), None, chance, records.seed),
        "mean_per_class": class_mean_metric(top1.tolist(), truth_M.tolist(), chance, records.seed),
        "tie_rate": Metric(found.tie_rate, n=len(top1)),
        "train_pictures": Metric(float(len(data.train_N)), n=len(data.train_N), unit="number"),
    }
