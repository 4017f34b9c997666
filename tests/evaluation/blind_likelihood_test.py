"""A captioner that likes some texts more than others is put right by what it says of no picture; a blind one is not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from captioner import Captioner, Knows, Painter

from diptych.core.errors import ConfigError
from diptych.core.records.results import Result
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import ScenePairs, Scenes
from diptych.evaluation.blind_likelihood import blind_scores, corrected, scores_by_text_likelihood
from diptych.evaluation.report import write_report
from diptych.evaluation.runner import evaluate

ONE = SceneConfig(size=32, objects=1)
TWO = SceneConfig(size=32, min_objects=2)


def evaluated(model: Any, benchmark: str, source: Source, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, [benchmark], source, folder=folder, settings={benchmark: settings})
    return result


def values(result: Result) -> dict[str, float]:
    return {name: metric.value for name, metric in result.metrics.items()}


def test_the_correction_takes_off_what_a_text_has_by_itself() -> None:
    model = Captioner(Knows(Scenes("test", 1, ONE)), liking=1.0)
    texts = ["a red circle", "a blue star on a white background"]
    blind_M = blind_scores(model, texts)
    assert blind_M.tolist() == pytest.approx(model.text_likelihood([None] * 2, [""] * 2, texts).mean().tolist())
    scores_NM = torch.tensor([[-1.0, -2.0]], dtype=torch.float64) + blind_M
    assert corrected(scores_NM, blind_M, 1.0).tolist() == [[pytest.approx(-1.0), pytest.approx(-2.0)]]
    assert torch.equal(corrected(scores_NM, blind_M, 0.0), scores_NM)
    assert blind_scores(model, []).shape == (0,)
    assert scores_by_text_likelihood(model) and not scores_by_text_likelihood(Painter(model.knows))


def test_retrieval() -> None:
    source = Scenes("test", 20, TWO)
    knows = Knows(source)
    found = values(evaluated(Captioner(knows), "retrieval", source, captions=1))
    assert found["pool"] == 20
    assert found["image_to_text_r1"] < 0.7  # the text that it likes best, unless it sees more than it likes
    assert found["image_to_text_r1_blind_corrected"] == 1.0
    assert found["text_to_image_r1"] == 1.0  # one text, so what it likes is the same for all pictures
    assert "text_to_image_r1_blind_corrected" not in found
    half = values(evaluated(Captioner(knows), "retrieval", source, captions=1, blind_alpha=0.5))
    assert found["image_to_text_r1"] < half["image_to_text_r1_blind_corrected"] < 1.0
    none = values(evaluated(Captioner(knows), "retrieval", source, captions=1, blind_alpha=0.0))
    assert not any(name.endswith("_blind_corrected") for name in none)
    blind = values(evaluated(Captioner(knows, sees=0.0), "retrieval", source, captions=1))
    assert blind["image_to_text_r1"] == pytest.approx(1 / 20)  # one text for all
    assert blind["image_to_text_r1_blind_corrected"] == 0.0  # all texts tie, strictly


def test_a_pool_of_first_captions() -> None:
    source = Scenes("test", 8, TWO)
    result = evaluated(Captioner(Knows(source), liking=0.0), "retrieval", source, captions=2, pool=5)
    assert result.extras["pool"] == {"pictures": 5, "captions": 10}
    assert result.metrics["image_to_text_r1"].value == 1.0


def test_a_picture_s_likelihood_is_asked_one_way_and_the_report_says_so(tmp_path: Path) -> None:
    source = Scenes("test", 8, TWO)
    result = evaluated(Painter(Knows(source)), "retrieval", source, tmp_path / "evaluation", captions=1)
    assert result.metrics["image_to_text_r1"].value == 1.0
    assert not any(name.startswith("text_to_image") for name in result.metrics)
    (note,) = result.extras["notes"]
    assert note == (
        "No text_to_image: the score of captioner is comparable over texts only: "
        "text_to_image retrieval needs the other."
    )
    assert result.verbs == {"score": "matching score of every pair"}
    assert note in write_report([tmp_path], tmp_path / "report.html").read_text()


def test_zero_shot() -> None:
    source = Scenes("test", 30, ONE)
    knows = Knows(source)
    found = values(evaluated(Captioner(knows), "zero_shot_classification", source, templates="name"))
    assert found["top1"] < 0.7
    assert found["top1_blind_corrected"] == 1.0
    blind = values(evaluated(Captioner(knows, sees=0.0), "zero_shot_classification", source, templates="name"))
    assert blind["mean_per_class"] == pytest.approx(1 / 6)
    assert blind["top1_blind_corrected"] == 0.0
    painted = values(evaluated(Painter(knows), "zero_shot_classification", source, templates="name"))
    assert painted["top1"] == 1.0 and "top1_blind_corrected" not in painted


def test_pairs() -> None:
    source = ScenePairs("test", 20, SceneConfig(size=32))
    knows = Knows(source)
    result = evaluated(Captioner(knows), "scene_pairs", source)
    found = values(result)
    assert found["image"] == 1.0 and found["text"] == found["group"] < 0.6
    assert found["text_blind_corrected"] == found["group_blind_corrected"] == 1.0
    assert "image_blind_corrected" not in found
    assert result.metrics["group_blind_corrected"].chance == pytest.approx(1 / 6)
    assert "less 1 times log p(text) of no picture" in result.extras["notes"][0]
    painted = evaluated(Painter(knows), "scene_pairs", source)
    assert values(painted)["text"] == 1.0
    assert not any(name.startswith(("image", "group")) for name in painted.metrics)
    assert painted.extras["notes"][0].startswith(
        "No image and no group score: the score of captioner is comparable over"
    )


def test_choices_say_what_is_known_without_the_picture() -> None:
    source = Scenes("test", 40, TWO)
    knows = Knows(source)
    found = values(evaluated(Captioner(knows, liking=0.3), "scene_negatives", source))
    blind = values(evaluated(Captioner(knows, liking=0.3, sees=0.0), "scene_negatives", source))
    for kind in ("replace_object", "swap_relation", "order"):
        assert found[f"{kind}_blind_corrected"] == 1.0
        assert found[f"{kind}_blind"] == blind[kind] == blind[f"{kind}_blind"] < found[kind] < 1.0
        assert blind[f"{kind}_blind_corrected"] == 0.0


@pytest.mark.parametrize("benchmark", ["retrieval", "zero_shot_classification", "scene_pairs"])
def test_a_negative_weight_is_refused(benchmark: str) -> None:
    source = Scenes("test", 2, TWO)
    with pytest.raises(ConfigError, match=rf"{benchmark}\.blind_alpha -1\.0 must be 0"):
        evaluated(Captioner(Knows(source)), benchmark, source, blind_alpha=-1.0)


def test_small_differences_between_large_likelihoods_are_kept() -> None:
    class Large(Painter):
        def image_likelihood(self, texts: Any, visuals: Any) -> Any:
            found = super().image_likelihood(texts, visuals)
            return found._replace(log_N=found.log_N - 1e7)

    for benchmark, number, source, settings in (
        ("retrieval", "image_to_text_r1", Scenes("test", 8, TWO), {"captions": 1}),
        ("zero_shot_classification", "top1", Scenes("test", 30, ONE), {"templates": "name"}),
        ("scene_pairs", "text", ScenePairs("test", 6, SceneConfig(size=32)), {}),
    ):
        assert values(evaluated(Large(Knows(source), sees=0.01), benchmark, source, **settings))[number] == 1.0
