"""Confidences and a judge beside the rule-based score of `vqa`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answerers import Likely, Scorer, Writer

from diptych.capabilities.generator import Likelihood
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Result, read_samples
from diptych.core.seeding import unit_interval
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmarks import vqa
from diptych.evaluation.report import write_report
from diptych.evaluation.runner import evaluate

SCENES = Scenes("test", 30, SceneConfig(size=32, min_objects=2, words=0))
TRUTH = {
    (SCENES[index].image.pixels_HWC.tobytes(), asked["question"]): asked["answer"]  # type: ignore[union-attr]
    for index in range(30)
    for asked in SCENES[index].meta["questions"]
}


def evaluated(model: Any, data: Any = SCENES, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["vqa"], data, folder=folder, settings={"vqa": {"blind": "none", **settings}})
    return result


def knows_half(visual: Any, question: str) -> str:
    """The truth of half of the questions, by a hash, and nonsense about the others."""
    pixels = visual.pixels_HWC.tobytes()
    return TRUTH[pixels, question] if unit_interval(pixels.hex(), question) < 0.5 else "nonsense"


class Sure(Likely):
    """As sure as it is right: it knows what it knows."""

    def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
        rows = [-0.1 if text != "nonsense" else -5.0 for text in texts]
        return Likelihood(torch.tensor(rows, dtype=torch.float64), torch.ones(len(rows), dtype=torch.int64))


class Unsure(Likely):
    """Equally sure of everything."""

    def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
        return Likelihood(torch.zeros(len(texts)).double(), torch.ones(len(texts), dtype=torch.int64))


def test_who_knows_what_it_knows(tmp_path: Path) -> None:
    result = evaluated(Sure(knows_half), folder=tmp_path / "run" / "evaluation", selective=True)
    found = result.metrics
    share = found["accuracy"].value
    assert 0.35 < share < 0.65
    assert found["aurc"].value == pytest.approx(found["aurc_best"].value) and found["aurc"].value < 0.3
    assert found["aurc_unsorted"].value == pytest.approx(1 - share)
    for risk in (1, 5, 10, 20):
        at = found[f"coverage_at_risk_{risk}"]
        assert share <= at.value <= share / (1 - risk / 100) + 1e-9 or at.value == pytest.approx(share)
        assert at.chance == 0.0
    for cost in (1, 10, 100):
        assert found[f"effective_reliability_{cost}"].value > 0.3
    assert found["effective_reliability_100_always"].value < -30
    assert result.verbs == {"answer": "native", "text_likelihood": "native"}
    assert len(result.extras["risk_coverage"]["risk"]) == len(result.extras["risk_coverage"]["coverage"]) <= 100
    lines = list(read_samples(tmp_path / "run" / "evaluation" / "vqa"))
    assert {round(line.values["confidence"], 6) for line in lines} == {
        round(float(np.exp(log)), 6) for log in (-0.1, -5.0)
    }
    (tmp_path / "run" / "config.yaml").write_text("name: made\n")
    assert "Wrong, by how much is answered" in write_report([tmp_path / "run"]).read_text("utf-8")


def test_who_is_equally_sure_of_everything_gains_nothing() -> None:
    found = evaluated(Unsure(knows_half), selective=True).metrics
    assert found["aurc"].value == pytest.approx(found["aurc_unsorted"].value)
    assert found["coverage_at_risk_20"].value == 0.0
    for cost in (10, 100):
        assert found[f"effective_reliability_{cost}"].value == 0.0  # it had better say nothing


def test_the_confidence_of_who_chooses_is_among_the_choices(tmp_path: Path) -> None:
    two = Scenes("test", 3, SceneConfig(size=32, min_objects=2, words=0))
    model = Scorer(lambda visual, text: "yes")
    evaluated(model, two, tmp_path, selective=True)
    binary = next(line for line in read_samples(tmp_path / "vqa") if "#present" in line.key)
    assert binary.values["confidence"] == pytest.approx(np.e / (np.e + 1))


def test_what_cannot_be_selected_by_is_refused() -> None:
    with pytest.raises(ConfigError, match="writer does not say how likely its answers are"):
        evaluated(Writer(knows_half), selective=True)
    with pytest.raises(DataError, match="cannot be parted into some to choose thresholds on"):
        evaluated(Sure(knows_half), Scenes("test", 1, SceneConfig(size=32, min_objects=2)), selective=True)


class Judge:
    """Rates 3 what is right, 1 nonsense, and says nothing readable of "yes" and "no"."""

    def __init__(self, reference: str, revision: str, device: Any) -> None:
        self.reference = reference

    def write(self, prompt: str) -> str:
        candidate = prompt.rpartition("Candidate: '")[2].partition("'")[0]
        if candidate in ("yes", "no"):
            return "who knows"
        return "Nonsense. So rating=1" if candidate == "nonsense" else "It fits. So rating=3"

    def described(self) -> dict[str, str]:
        return {"model": self.reference, "weights": "0"}


def test_a_judge_s_known_ratings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vqa, "TextJudge", Judge)
    result = evaluated(Writer(knows_half), folder=tmp_path, judge="a/folder", judge_examples=2)
    lines = list(read_samples(tmp_path / "vqa"))
    answers = [line.output["answer"] for line in lines]  # type: ignore[index,call-overload]
    unread = sum(answer in ("yes", "no") for answer in answers)
    right = sum(answer not in ("yes", "no", "nonsense") for answer in answers)
    assert result.metrics["lave"].value == pytest.approx((right + 0.5 * unread) / len(answers))
    assert result.metrics["lave_unread"].value == pytest.approx(unread / len(answers))
    assert result.metrics["accuracy"].value == pytest.approx((right + unread) / len(answers))  # always beside it
    assert next(iter(result.metrics)) == "accuracy"
    assert {line.output["judge"] for line in lines} == {"who knows", "Nonsense. So rating=1", "It fits. So rating=3"}  # type: ignore[index,call-overload]
    assert result.extras["judge"]["model"] == "a/folder" and len(result.extras["judge"]["prompt"]) == 16
    assert any("LAVE by" in note and json.dumps("a/folder") in note for note in result.extras["notes"])
