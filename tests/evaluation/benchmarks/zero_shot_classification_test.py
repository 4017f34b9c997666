"""Prompt ensembles, top-k and the mean over classes, on a model whose vectors are known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.encodings import class_vectors
from diptych.capabilities.verbs import Comparable
from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.evaluation.benchmark import Records
from diptych.evaluation.benchmarks.zero_shot_classification import Settings, run
from diptych.evaluation.templates import TEMPLATES, templates

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")
D = 8


def vector(text: str) -> Tensor:
    """A unit vector that depends on every letter of the text."""
    seed = sum(ord(letter) * 131**i for i, letter in enumerate(text)) % 2**31
    return F.normalize(torch.randn(D, generator=torch.Generator().manual_seed(seed)), dim=0)


class Known:
    """Texts have random but fixed vectors; a picture is the vector in its pixels."""

    VERBS: tuple[str, ...] = ("encode_image", "encode_text")
    comparable_over = Comparable.BOTH
    ranks_by_cosine = True
    name = "known"

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([vector(text) for text in texts])

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        if any(one.name == "bad" for one in visuals):
            raise BadSample("bad", "truncated image")
        rows = torch.stack([torch.from_numpy(v.pixels_HWC[0, :, 0].astype(np.float32)) - 128 for v in visuals])
        return F.normalize(rows, dim=-1)


class Animals:
    """Pictures of the classes with these indices, each near the class's vector for one template."""

    name = "animals"

    def __init__(self, truth: Sequence[int], template: str, noise: float) -> None:
        self.truth = list(truth)
        self.bad: int | None = None
        rng = torch.Generator().manual_seed(0)
        self.rows = [vector(template.format(NAMES[i])) + noise * torch.randn(D, generator=rng) for i in truth]

    def __len__(self) -> int:
        return len(self.truth)

    def keys(self) -> list[str]:
        return [f"k{i}" for i in range(len(self))]

    def fingerprint(self) -> str:
        return "animals"

    def __getitem__(self, index: int) -> Sample:
        row = (60 * F.normalize(self.rows[index], dim=0) + 128).round().to(torch.uint8).numpy()
        name = "bad" if index == self.bad else ""
        image = Image(pixels_HWC=np.repeat(row[None, :, None], 3, axis=2), name=name)
        return Sample(f"k{index}", (image,), meta={"class": NAMES[self.truth[index]]})


def test_an_ensemble_is_the_normalised_mean_of_normalised_embeddings() -> None:
    prompts = templates("openai_7")
    found = class_vectors(Known(), NAMES, prompts)
    for row, name in zip(found, NAMES, strict=True):
        each = np.stack([vector(prompt.format(name)).numpy() for prompt in prompts]).astype(np.float64)
        each /= np.linalg.norm(each, axis=1, keepdims=True)
        mean = each.mean(0)
        np.testing.assert_allclose(row.numpy(), mean / np.linalg.norm(mean), atol=1e-6)
    torch.testing.assert_close(class_vectors(Known(), NAMES, ["a {}"] * 5), class_vectors(Known(), NAMES, ["a {}"]))


def test_top_1_top_5_and_the_mean_over_classes_against_loops() -> None:
    truth = [0] * 40 + [1] * 20 + [2, 3, 4, 5, 6] * 4
    data, prompts = Animals(truth, "a photo of a {}", 0.35), templates("openai_7")
    records = Records(None, {})
    found = run(Known(), data, Settings(templates="openai_7"), records).metrics  # type: ignore[arg-type]
    images, classes = (
        Known().encode_image([data[i].image for i in range(len(data))]),
        class_vectors(Known(), NAMES, prompts),
    )
    order = (images @ classes.T).argsort(dim=1, descending=True).tolist()
    hit = {k: [float(t in row[:k]) for t, row in zip(truth, order, strict=True)] for k in (1, 5)}
    assert found["top1"].value == pytest.approx(np.mean(hit[1]))
    assert found["top5"].value == pytest.approx(np.mean(hit[5]))
    assert 0 < found["top1"].value < found["top5"].value < 1
    assert (found["top1"].chance, found["top5"].chance) == (pytest.approx(1 / 7), pytest.approx(5 / 7))
    per_class = [np.mean([h for h, t in zip(hit[1], truth, strict=True) if t == c]) for c in range(7)]
    assert found["mean_per_class"].value == pytest.approx(np.mean(per_class))
    assert found["mean_per_class"].value != pytest.approx(found["top1"].value, abs=1e-3)
    assert [record.output for record in records.done.values()] == [NAMES[row[0]] for row in order]


def test_the_template_of_the_data_is_right_always_and_fills_the_diagonal() -> None:
    outcome = run(Known(), Animals([0, 1, 2, 3] * 3, "a {}.", 0.02), Settings("a {}."), Records(None, {}))  # type: ignore[arg-type]
    assert outcome.metrics["top1"].value == outcome.metrics["mean_per_class"].value == 1.0
    assert "top5" not in outcome.metrics  # of four classes it would say nothing
    assert outcome.extras["confusion"] == {"classes": list(NAMES[:4]), "matrix": (3 * np.eye(4, dtype=int)).tolist()}
    assert outcome.extras["prompts"] == ["a ant."]


@pytest.mark.parametrize("verbs", [("score",), ("encode_image", "encode_text", "score")])
def test_a_scorer_gets_the_mean_score_over_templates(verbs: tuple[str, ...]) -> None:
    class Scorer(Known):
        VERBS = verbs
        ranks_by_cosine = False
        pictures = 0

        def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
            rows = self.encode_image(visuals) @ self.encode_text(texts).T
            self.pictures += len(visuals)
            return rows

    data, prompts = Animals([0, 1, 2, 3, 4, 5, 6] * 3, "a photo of a {}", 0.3), templates("openai_7")
    records = Records(None, {})
    data.bad = 4
    model = Scorer()
    run(model, data, Settings("openai_7"), records)  # type: ignore[arg-type]
    assert records.done.pop("k4").status == "truncated image"
    assert model.pictures == len(data) - 1  # each picture is looked at once, whatever the number of templates
    data.bad = None
    images = Known().encode_image([data[i].image for i in range(len(data)) if i != 4])
    sums = sum(images @ Known().encode_text([p.format(n) for n in NAMES]).T for p in prompts)
    assert [record.output for record in records.done.values()] == [NAMES[i] for i in sums.argmax(1)]  # type: ignore[union-attr]


def test_templates_by_name_by_themselves_and_from_a_file(tmp_path: Path) -> None:
    assert templates("plain") == ("a photo of a {}",)
    assert templates("the {} itself") == ("the {} itself",)
    assert len(TEMPLATES["openai_7"]) == 7
    (tmp_path / "mine.txt").write_text("one {}\n\ntwo {}\n")
    assert templates(str(tmp_path / "mine.txt")) == ("one {}", "two {}")
    (tmp_path / "mine.txt").write_text("one {}\ntwo\n")
    with pytest.raises(ConfigError, match=r"the template 'two' has no \{\} for the class name"):
        templates(str(tmp_path / "mine.txt"))
    (tmp_path / "mine.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no templates"):
        templates(str(tmp_path / "mine.txt"))
    with pytest.raises(ConfigError, match="did you mean 'openai_7'"):
        templates("openai7")


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"animals has 1 class\(es\): classification needs two or more"):
        run(Known(), Animals([0, 0], "a {}", 0.1), Settings(), Records(None, {}))  # type: ignore[arg-type]
