"""MME's folder and scenes, by answerers of known habits; the sums by hand."""

from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from answerers import Narrator, Scorer, Writer, colour_of

from diptych.core.errors import DataError
from diptych.core.records.results import Result, read_samples
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmarks.mme import read_mme
from diptych.evaluation.runner import evaluate


def evaluated(model: Any, data: Any, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["mme"], data, folder=folder, settings={"mme": settings})
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subtasks in the two ways in which the release lays them out, and one of cognition."""
    places = {
        "color": ("", ("red", "blue")),
        "posters": ("images", ("blue",)),
        "code_reasoning": ("", ("red",)),
    }
    for task, (below, colours) in places.items():
        for colour in colours:
            pictures, texts = tmp_path / task / below, tmp_path / task / ("questions_answers_YN" if below else "")
            pictures.mkdir(parents=True, exist_ok=True)
            texts.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", (20, 20), colour).save(pictures / f"{colour}.jpg")
            other = {"red": "blue", "blue": "red"}[colour]
            asked = f"Is it {colour}? Please answer yes or no.\tYes\nIs it {other}? Please answer yes or no.\tNo\n"
            (texts / f"{colour}.txt").write_text(asked)
    return tmp_path


def sees(visual: Any, question: str) -> str:
    return "Yes, it is." if colour_of(visual) in question else "no"


@pytest.mark.parametrize(
    ("answer", "read"),
    [("Yes", "yes"), ("no.", "no"), (" yes", "yes"), ("Nope", "no"), ("not", "no"), ("It is", "other"), ("", "other"),
     ("The yes", "other"), ("I know", "other")],
)  # fmt: skip
def test_the_official_reading(answer: str, read: str) -> None:
    assert read_mme(answer) == read


def test_the_official_sums(folder: Path) -> None:
    for model in (Writer(sees), Narrator(sees)):
        found = evaluated(model, str(folder)).metrics
        assert (found["perception"].value, found["cognition"].value) == (400.0, 200.0)
        assert (found["perception"].chance, found["cognition"].chance) == (150.0, 75.0)
        assert found["accuracy_plus"].value == 1.0 and found["accuracy_plus_other_picture"].value < 0.5
        assert found["color_score"].value == 200.0 and found["color_accuracy"].n == 2
    chosen = evaluated(Scorer(lambda visual, text: "yes" if colour_of(visual) in text else "no"), str(folder))
    assert chosen.metrics["perception"].value == 400.0


def test_one_right_of_two_counts_half_and_for_accuracy_plus_nothing(folder: Path) -> None:
    result = evaluated(Writer(lambda *_: "yes"), str(folder), folder / "out")
    found = {name: metric.value for name, metric in result.metrics.items()}
    assert (found["accuracy"], found["accuracy_plus"]) == (0.5, 0.0)
    assert (found["perception"], found["cognition"], found["color_score"]) == (100.0, 50.0, 50.0)
    # Only the red ones: one picture of two in "color", none of "posters", and the one of "code_reasoning".
    half = evaluated(Writer(lambda visual, q: sees(visual, q) if colour_of(visual) == "red" else "maybe"), str(folder))
    assert half.metrics["perception"].value == pytest.approx(100 * (0.5 + 0.5))
    assert half.metrics["cognition"].value == 200.0
    assert half.metrics["unread"].value == 0.5
    keys = {record.key for record in read_samples(folder / "out" / "mme")}
    assert {"color/red#0", "color/red#1", "color/red", "posters/blue#0"} <= keys and result.counts.evaluated == 4


def test_scenes_have_existence() -> None:
    scenes = Scenes("test", 4, SceneConfig(size=32, min_objects=2))
    present = {scenes[i].image.pixels_HWC.tobytes(): scenes[i].meta["present"] for i in range(4)}  # type: ignore[union-attr]
    knows = Writer(
        lambda visual, question: "yes" if any(n in question for n in present[visual.pixels_HWC.tobytes()]) else "no"
    )
    found = evaluated(knows, scenes).metrics
    assert (found["perception"].value, found["accuracy_plus"].value) == (200.0, 1.0)
    assert found["accuracy_plus_other_picture"].value < 1.0


def test_what_cannot_be_asked_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "color" / "red.txt").write_text("Is it red?\tYes\n")
    with pytest.raises(DataError, match=r"red.txt does not hold two questions"):
        evaluated(Writer(sees), str(folder))
    for path in folder.rglob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match="has no pictures with two questions"):
        evaluated(Writer(sees), str(folder))
    (folder / "color" / "none.txt").write_text("Is it red?\tYes\nIs it blue?\tNo\n")
    with pytest.raises(DataError, match="not one of 1 pictures could be asked about"):
        evaluated(Writer(sees), str(folder))
