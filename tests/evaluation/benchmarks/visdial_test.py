"""VisDial's files and scenes, by models of known likelihoods."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from answerers import Likely, Scorer, colour_of

from diptych.capabilities.generator import Likelihood
from diptych.core.errors import DataError
from diptych.core.records.results import Result, read_samples
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.runner import evaluate

ANSWERS = ["red", "green", "blue", "yes", "no"]


def evaluated(model: Any, data: Any, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["visdial"], data, folder=folder, settings={"visdial": settings})
    return result


def write(path: Path, plain: Any) -> None:
    path.write_text(json.dumps(plain), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with two rounds each; the second round of the second has no answer."""
    (tmp_path / "images").mkdir()
    for number, colour in ((1, "red"), (2, "blue")):
        PIL.Image.new("RGB", (20, 20), colour).save(tmp_path / "images" / f"VisualDialog_val2018_{number:012d}.jpg")

    def turn(question: int, answer: int) -> dict[str, Any]:
        return {"question": question, "answer": answer, "answer_options": [4, 3, 2, 1, 0], "gt_index": 4 - answer}

    dialogs = [
        {"image_id": 1, "caption": "a wall", "dialog": [turn(0, 0), turn(1, 3)]},
        {"image_id": 2, "caption": "the sea", "dialog": [turn(0, 2), {"question": 1}]},
    ]
    data = {"questions": ["what colour is it", "is it red"], "answers": ANSWERS, "dialogs": dialogs}
    write(tmp_path / "visdial_1.0_val.json", {"data": data})
    relevance = [0.0, 0.0, 0.0, 0.5, 1.0]
    write(
        tmp_path / "visdial_1.0_val_dense_annotations.json",
        [{"image_id": 1, "round_id": 1, "gt_relevance": relevance}],
    )
    return tmp_path


def sees(visual: Any, prompt: str) -> str:
    return ("yes" if colour_of(visual) == "red" else "no") if prompt.endswith("is it red?") else colour_of(visual)


def test_the_official_files(folder: Path) -> None:
    result = evaluated(Likely(sees), str(folder), folder / "out")
    found = {name: metric.value for name, metric in result.metrics.items()}
    assert (found["mrr"], found["r1"], found["mean_rank"]) == (1.0, 1.0, 1.0)
    # Of the other picture the true answer ties with three others below the first.
    assert found["mrr_other_picture"] == pytest.approx(1 / 5)
    assert found["mean_rank_other_picture"] == 5.0
    assert result.metrics["r1"].chance == pytest.approx(1 / 5)
    assert result.metrics["mrr"].chance == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5)
    assert "r5" not in found  # there are five candidates
    # Red is first; the half-relevant answer ties with three others for the second place.
    log2 = torch.log2(torch.tensor(3.0)).item()
    assert found["ndcg"] == pytest.approx((1 + 0.125 / log2) / (1 + 0.5 / log2))
    assert result.verbs == {"text_likelihood": "native"}
    assert (result.counts.evaluated, result.counts.skipped, result.metrics["mrr"].n) == (3, 1, 2)
    lines = {record.key: record for record in read_samples(folder / "out" / "visdial")}
    assert lines["1/2"].prompt == ["a wall", "what colour is it? red.", "is it red?"]
    assert lines["2/2"].status == "skipped: no answers"


def test_all_the_same_is_chance_when_ties_are_broken_at_random(folder: Path) -> None:
    class Same(Likely):
        def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
            return Likelihood(torch.zeros(len(texts)).double(), torch.ones(len(texts), dtype=torch.int64))

    found = evaluated(Same(sees), str(folder)).metrics
    assert found["mrr"].value == pytest.approx(1 / 5) and found["r1"].value == 0.0
    for name in ("mrr_expected", "r1_expected", "ndcg"):
        assert found[name].value == pytest.approx(found[name].chance)


def test_by_score_and_without_history(folder: Path) -> None:
    model = Scorer(lambda visual, text: sees(visual, text.rpartition(" ")[0]))
    result = evaluated(model, str(folder))
    assert (result.metrics["mrr"].value, result.verbs) == (1.0, {"score": "native"})
    prompts = []
    evaluated(Likely(lambda visual, prompt: prompts.append(prompt) or ""), str(folder), history=False, blind=False)
    assert set(prompts) == {"what colour is it?", "is it red?"}


def test_per_token_or_summed(folder: Path) -> None:
    class Lengths(Likely):
        def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
            counts = torch.tensor([len(text) for text in texts])
            return Likelihood(-(counts.double() ** 0.5), counts)

    for per_token, first in ((False, "no"), (True, "green")):
        out = folder / f"out_{per_token}"
        evaluated(Lengths(sees), str(folder), out, per_token=per_token, blind=False)
        outputs = [record.output for record in read_samples(out / "visdial") if record.status == "ok"]
        assert {output["first"] for output in outputs} == {first}


def test_scenes() -> None:
    scenes = Scenes("test", 3, SceneConfig(size=32, words=0))
    asked = {scenes[i].image.pixels_HWC.tobytes(): scenes[i].meta["questions"] for i in range(3)}  # type: ignore[union-attr]

    def knows(visual: Any, prompt: str) -> str:
        return next((q["answer"] for q in asked[visual.pixels_HWC.tobytes()] if q["question"] == prompt), "")

    found = evaluated(Likely(knows), scenes).metrics
    assert found["mrr"].value == found["r1"].value == 1.0
    assert found["mrr_other_picture"].value < 0.9 and found["mrr"].chance is not None and found["mrr"].chance < 0.6


def test_what_cannot_be_read_is_refused(folder: Path) -> None:
    dense, dialogs = folder / "visdial_1.0_val_dense_annotations.json", folder / "visdial_1.0_val.json"
    write(dense, [{"image_id": 7, "round_id": 1, "gt_relevance": []}])
    with pytest.raises(DataError, match="an annotation is of picture 7, which no dialog is about"):
        evaluated(Likely(sees), str(folder))
    write(dense, [{"image_id": 1, "round_id": 1, "gt_relevance": [1.0]}])
    with pytest.raises(DataError, match="has 5 candidates and 1 relevances"):
        evaluated(Likely(sees), str(folder))
    dense.unlink()
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"not one of 3 questions could be asked: .* 3 with skipped: no picture"):
        evaluated(Likely(sees), str(folder))
    plain = json.loads(dialogs.read_text())["data"]
    write(dialogs, {"data": plain | {"dialogs": []}})
    with pytest.raises(DataError, match="holds no dialogs"):
        evaluated(Likely(sees), str(folder))
    write(dialogs, {"data": []})
    with pytest.raises(DataError, match="has no data with questions, answers and dialogs"):
        evaluated(Likely(sees), str(folder))
