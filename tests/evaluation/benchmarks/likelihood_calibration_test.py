"""Models that are right exactly as often as they say, or not; closed forms of the softmax; the diagram."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from captioner import Captioner, Knows, Painter

from diptych.capabilities.generator import Likelihood
from diptych.core.errors import ConfigError, DataError, MissingVerb, NotANumber
from diptych.core.records.results import Result, read_samples
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.report import write_report
from diptych.evaluation.runner import evaluate

SOURCE = Scenes("test", 20, SceneConfig(size=32, min_objects=2))
KNOWS = Knows(SOURCE)


def evaluated(model: Any, source: Source = SOURCE, folder: Path | None = None, **settings: Any) -> Result:
    chosen = {"likelihood_calibration": settings}
    (result,) = evaluate(model, ["likelihood_calibration"], source, folder=folder, settings=chosen)
    return result


def values(result: Result) -> dict[str, float]:
    return {name: metric.value for name, metric in result.metrics.items()}


class Sure(Captioner):
    """As sure as told of one candidate each time, and right for the first `right` pictures."""

    def __init__(self, confidence: float, right: int) -> None:
        super().__init__(KNOWS)
        self.confidence = confidence
        self.right = {SOURCE[i].image.pixels_HWC.tobytes() for i in range(right)}  # type: ignore[union-attr]

    def text_likelihood(self, visuals: Sequence[Any], prompts: Sequence[str], texts: Sequence[str]) -> Likelihood:
        assert self.knows.says(visuals[0], texts[0]) and len(texts) == len(set(texts))
        assert not any(self.knows.says(visual, text) for visual, text in zip(visuals[1:], texts[1:], strict=True))
        shares = torch.full((len(texts),), (1 - self.confidence) / (len(texts) - 1), dtype=torch.float64)
        shares[0 if visuals[0].pixels_HWC.tobytes() in self.right else 1] = self.confidence
        counts = torch.tensor([len(text.split()) for text in texts])
        return Likelihood(shares.log() - 50, counts)


def test_who_is_right_as_often_as_it_says_is_calibrated() -> None:
    found = values(evaluated(Sure(0.6, right=12)))
    assert found["text_accuracy"] == found["text_accuracy_expected"] == 0.6
    assert found["text_confidence"] == pytest.approx(0.6)
    assert found["text_calibration_error"] == pytest.approx(0, abs=1e-12)
    assert found["text_overconfidence"] == pytest.approx(0, abs=1e-12)
    assert found["text_log_loss"] == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.1))


def test_who_is_too_sure_is_not() -> None:
    result = evaluated(Sure(0.9, right=6))
    found = values(result)
    assert found["text_accuracy"] == 0.3 and result.metrics["text_accuracy"].chance == pytest.approx(1 / 5)
    assert found["text_calibration_error"] == pytest.approx(0.6)
    assert found["text_overconfidence"] == pytest.approx(0.6)
    modest = values(evaluated(Sure(0.3, right=20)))
    assert modest["text_calibration_error"] == pytest.approx(0.7)
    assert modest["text_overconfidence"] == pytest.approx(-0.7)


@pytest.mark.parametrize("among", [2, 5, 8])
def test_the_likelihood_of_a_picture_given_each_text(among: int) -> None:
    result = evaluated(Painter(KNOWS, sees=1.5), among=among)
    found = values(result)
    sure = math.exp(1.5) / (math.exp(1.5) + among - 1)
    assert found["image_accuracy"] == 1.0
    assert found["image_confidence"] == pytest.approx(sure)
    assert found["image_calibration_error"] == pytest.approx(1 - sure)
    assert found["image_log_loss"] == pytest.approx(-math.log(sure))
    assert result.verbs == {"image_likelihood": "native"}
    assert not any(name.startswith("text") for name in found)
    tokens = values(evaluated(Painter(KNOWS, sees=1.5), among=among, per_token=True))
    assert tokens["image_log_loss"] == pytest.approx(math.log(1 + (among - 1) * math.exp(-1.5 / 64)))


def test_who_knows_nothing_and_says_so() -> None:
    found = values(evaluated(Painter(KNOWS, sees=0.0)))
    assert found["image_accuracy"] == 0.0 and found["image_accuracy_expected"] == pytest.approx(1 / 5)
    assert found["image_calibration_error"] == pytest.approx(0, abs=1e-12)
    assert found["image_log_loss"] == pytest.approx(math.log(5))


class BothWays(Painter):
    VERBS = ("text_likelihood", "image_likelihood")


def test_both_ways_and_the_report(tmp_path: Path) -> None:
    result = evaluated(BothWays(KNOWS), folder=tmp_path / "evaluation")
    assert result.verbs == {"text_likelihood": "native", "image_likelihood": "native"}
    assert {"text_accuracy", "image_accuracy"} <= result.metrics.keys()
    (record, *_) = read_samples(tmp_path / "evaluation" / "likelihood_calibration")
    assert sum(record.output["image"]) == pytest.approx(1) and len(record.prompt) == 5
    page = write_report([tmp_path], tmp_path / "report.html").read_text()
    assert page.count("Right, by how sure it is") >= 2
    assert "by confidence" in page


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs two candidates or more"):
        evaluated(Painter(KNOWS), among=1)
    with pytest.raises(DataError, match="no picture with 29 captions of others"):
        evaluated(Painter(KNOWS), among=30)
    with pytest.raises(NotANumber, match="captioner answers NaN"):
        evaluated(Painter(KNOWS, sees=float("nan")))

    class Encodes(Painter):
        VERBS = ("encode_image",)

    with pytest.raises(MissingVerb, match="captioner has no verb 'text_likelihood'"):
        evaluated(Encodes(KNOWS))
