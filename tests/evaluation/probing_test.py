"""Probes on features that are known: the fit against scipy's, the votes against loops, the parts by key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

from diptych.core.errors import DataError
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.open import open_source
from diptych.data.pixels.decode import decode
from diptych.evaluation.benchmark import Records
from diptych.evaluation.benchmarks import knn, linear_probe
from diptych.evaluation.probing import ProbeData, probe_data, probe_metrics

N, C, D = 120, 3, 4


class Pixels:
    """A picture's feature is its first pixel, as it is."""

    name = "pixels"

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        return torch.stack([torch.from_numpy(v.pixels_HWC[0, 0].astype(np.float32)) for v in visuals])


class Decoded(Pixels):
    """The same of encoded pictures."""

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        return super().encode_image([Image(pixels_HWC=decode(visual, visual.name)) for visual in visuals])


class Colours:
    """Samples of three colours that are far apart, called by name."""

    name = "colours"

    def __init__(self, count: int = 90, classes: int = 3) -> None:
        rng = np.random.default_rng(0)
        self.classes = [i % classes for i in range(count)]
        self.pixels = [20 * rng.random(3) + 200 * np.eye(3)[c] for c in self.classes]

    def __len__(self) -> int:
        return len(self.classes)

    def keys(self) -> list[str]:
        return [f"k{i}" for i in range(len(self))]

    def fingerprint(self) -> str:
        return "colours"

    def __getitem__(self, index: int) -> Sample:
        image = Image(pixels_HWC=self.pixels[index].astype(np.uint8).reshape(1, 1, 3))
        return Sample(f"k{index}", (image,), meta={"class": "rgb"[self.classes[index]]} if index != 5 else {})


def features(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    y_N = torch.randint(C, (N,), generator=rng)
    centres_CD = torch.randn(C, D, generator=rng)
    return centres_CD[y_N] + 0.7 * torch.randn(N, D, generator=rng), y_N


@pytest.mark.parametrize("penalty", [1e-1, 1e-2, 1e-4])
def test_the_fit_is_the_minimum_that_scipy_finds(penalty: float) -> None:
    x_ND, y_N = features()
    weight_CD, bias_C = linear_probe.fit(x_ND, y_N, C, penalty)
    x, y = x_ND.double().numpy(), y_N.numpy()

    def loss(flat):  # type: ignore[no-untyped-def]
        w, b = flat[: C * D].reshape(C, D), flat[C * D :]
        logits = x @ w.T + b
        return (logsumexp(logits, axis=1) - logits[np.arange(N), y]).mean() + penalty / 2 * (w**2).sum()

    best = minimize(loss, np.zeros(C * D + C), method="BFGS", options={"gtol": 1e-9})
    assert loss(np.concatenate([weight_CD.flatten(), bias_C])) <= best.fun + 1e-9
    np.testing.assert_allclose(weight_CD.numpy(), best.x[: C * D].reshape(C, D), atol=2e-3)
    # A bias is free up to a constant: compare after taking its mean away.
    np.testing.assert_allclose(bias_C - bias_C.mean(), best.x[C * D :] - best.x[C * D :].mean(), atol=2e-3)


def test_a_strong_penalty_leaves_the_class_frequencies() -> None:
    x_ND, y_N = features()
    weight_CD, bias_C = linear_probe.fit(x_ND, y_N, C, 1e2)
    assert weight_CD.abs().max() < 1e-2
    frequencies = torch.bincount(y_N, minlength=C) / N
    torch.testing.assert_close(bias_C.softmax(0).float(), frequencies, atol=3e-3, rtol=0)


def test_neighbours_vote_as_in_a_loop() -> None:
    (train_ND, train_N), (test_MD, test_M) = features(1), features(2)
    data = ProbeData(train_ND, train_N, test_MD, test_M, list("abc"), [])
    found = knn.votes(data, k=7)
    for row, vector in enumerate(test_MD.double()):
        similarity = [float(vector @ one / (vector.norm() * one.norm())) for one in train_ND.double()]
        nearest = sorted(range(N), key=lambda i: -similarity[i])[:7]
        expected = [sum(np.exp(similarity[i] / 0.07) for i in nearest if train_N[i] == c) for c in range(C)]
        assert found[row].tolist() == pytest.approx(expected, rel=1e-3)


def test_neighbours_that_tie_for_the_last_place_share_it() -> None:
    similarity_MN = torch.tensor([[0.07, 0.0, 0.0, 0.0, -0.07]])
    weights = knn.neighbour_weights(similarity_MN, k=2)
    assert weights[0].tolist() == pytest.approx([np.e, 1 / 3, 1 / 3, 1 / 3, 0.0])


@pytest.mark.parametrize("probe", [linear_probe, knn])
def test_separable_colours_are_told_apart(probe: Any) -> None:
    records = Records(None, {})
    outcome = probe.run(Pixels(), Colours(), probe.Settings(), records)
    top1 = outcome.metrics["top1"]
    assert (top1.value, top1.chance) == (1.0, pytest.approx(1 / 3))
    assert records.done["k5"].status == "no class"
    ok = [record for record in records.done.values() if record.status == "ok"]
    assert len(ok) == top1.n
    assert outcome.metrics["train_pictures"].value + top1.n == 89


def folders(place: Path, names: str, count: int = 4) -> str:
    """Class folders of plain pictures in a colour each."""
    for index, name in enumerate("rgb"):
        (place / name).mkdir(parents=True)
        for number in range(count):
            PIL.Image.new("RGB", (2, 2), tuple(200 * (index == i) + number for i in range(3))).save(
                place / name / f"{names}{number}.png"
            )
    return str(place)


def test_parts_by_a_hash_of_the_key() -> None:
    half = probe_data(Pixels(), Colours(), "", 0.5, Records(None, {}))
    assert 30 < len(half.test_M) < 60
    assert len(half.test_M) + len(half.train_N) == 89
    again = probe_data(Pixels(), Colours(60), "", 0.5, Records(None, {}))
    assert {s.key for s in again.test_samples} == {s.key for s in half.test_samples if int(s.key[1:]) < 60}


def test_training_pictures_from_elsewhere_and_never_the_same(tmp_path: Path) -> None:
    train, test = folders(tmp_path / "a", "train"), folders(tmp_path / "b", "test", 2)
    found = probe_data(Decoded(), open_source(test), train, 0.3, Records(None, {}))
    assert (len(found.train_N), len(found.test_M), found.names) == (12, 6, ["b", "g", "r"])
    assert torch.bincount(found.train_N).tolist() == [4, 4, 4]
    with pytest.raises(DataError, match=r"12 pictures of .* are also training pictures"):
        probe_data(Decoded(), open_source(train), train, 0.3, Records(None, {}))


def test_one_class_cannot_be_probed() -> None:
    with pytest.raises(DataError, match=r"1 classes, .* a probe needs at least two classes and both parts"):
        probe_data(Pixels(), Colours(classes=1), "", 0.3, Records(None, {}))


def test_the_mean_over_classes_weighs_classes_and_not_pictures() -> None:
    truth_M = torch.tensor([0] * 8 + [1] * 2)
    scores_MC = torch.tensor([[1.0, 0.0, -1.0]]).repeat(10, 1)  # always the first class
    samples = [Sample(f"k{i}") for i in range(10)]
    data = ProbeData(torch.zeros(0, 1), torch.zeros(0), torch.zeros(10, 1), truth_M, list("abc"), samples)
    found = probe_metrics(scores_MC, data, Records(None, {}))
    assert found["top1"].value == pytest.approx(0.8)
    assert found["mean_per_class"].value == pytest.approx(0.5)  # over the two classes that the test part has
