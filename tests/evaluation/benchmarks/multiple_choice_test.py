"""Circular evaluation by answerers of known habits, on MMBench's tables and on scenes."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from answerers import Narrator, Scorer, Writer, colour_of

from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Result, read_samples
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.runner import evaluate

COLUMNS = ("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image")


def evaluated(model: Any, data: Any, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["multiple_choice"], data, folder=folder, settings={"multiple_choice": settings})
    return result


def picture(colour: str) -> str:
    written = io.BytesIO()
    PIL.Image.new("RGB", (20, 20), colour).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def write(path: Path, rows: list[tuple[Any, ...]]) -> None:
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in [COLUMNS, *rows]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        (1, "Which colour?", "nan", "green", "red", "blue", "", "B", "colour", picture("red")),
        (2, "Which colour?", "Look.", "blue", "red", "", "", "A", "colour", picture("blue")),
        (3, "Warm or cold?", "", "cold", "warm", "", "", "B", "feeling", 1),  # the picture of row 1
        (1_000_001, "Which colour?", "", "red", "blue", "green", "", "A", "colour", 1),  # a rotation of theirs
    ]
    write(tmp_path / "mmbench_dev.tsv", rows)
    return tmp_path


def looks(visual: Any, prompt: str) -> str:
    """The letter of the colour that it sees; of warm or cold it takes the first option."""
    found = re.search(rf"^([A-D])\. {colour_of(visual)}$", prompt, re.MULTILINE)
    return found[1] if found else "A"


def test_the_official_table(folder: Path) -> None:
    for model in (Writer(looks), Narrator(looks)):
        result = evaluated(model, str(folder), folder / "out")
        found = {name: metric.value for name, metric in result.metrics.items()}
        assert found["circular"] == pytest.approx(2 / 3)
        assert (found["circular_colour"], found["circular_feeling"]) == (1.0, 0.0)
        assert found["accuracy"] == pytest.approx(2 / 3)  # "cold" stands first, and "warm" is right
        assert found["accuracy_all_rotations"] == pytest.approx((1 + 1 + 0.5) / 3)
        assert found["circular_other_picture"] == 0.0 and found["unread"] == 0.0
        assert result.counts.evaluated == 3
    lines = {record.key: record for record in read_samples(folder / "out" / "multiple_choice")}
    assert set(lines) == {"1#0", "1#1", "1#2", "2#0", "2#1", "3#0", "3#1", "1", "2", "3"}
    assert lines["1"].values["circular"] == 1.0 and lines["3"].values["circular"] == 0.0
    assert lines["1#1"].prompt == (
        "Which colour?\nA. red\nB. blue\nC. green\nAnswer with the option's letter from the given choices directly."
    )
    assert lines["2#0"].prompt.startswith("Look.\nWhich colour?\nA. blue")  # type: ignore[union-attr]
    assert lines["1#1"].output["answer"] == "A" and lines["1#1"].output["read"] == "red"


@pytest.mark.parametrize("letter", ["A", "B"])
def test_who_always_says_one_letter_has_no_question_right(folder: Path, letter: str) -> None:
    result = evaluated(Writer(lambda *_: letter), str(folder))
    assert result.metrics["circular"].value == 0.0
    assert result.metrics["accuracy_all_rotations"].value == pytest.approx(result.metrics["accuracy"].chance)
    assert result.metrics["accuracy"].chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert result.metrics["circular"].chance == pytest.approx((1 / 27 + 1 / 4 + 1 / 4) / 3)


def test_what_cannot_be_read_is_wrong_and_counted(folder: Path) -> None:
    found = evaluated(Writer(lambda *_: "I cannot say."), str(folder)).metrics
    assert (found["accuracy"].value, found["unread"].value) == (0.0, 1.0)


def test_who_scores_texts_is_given_texts(folder: Path) -> None:
    def says(visual: Any, text: str) -> str:
        return "warm" if "Warm" in text else colour_of(visual)

    found = evaluated(Scorer(says), str(folder)).metrics
    assert (found["circular"].value, found["accuracy"].value) == (1.0, 1.0)


def test_scenes_have_the_right_answer_among_four() -> None:
    scenes = Scenes("test", 5, SceneConfig(size=32, words=0))
    asked = {scenes[i].image.pixels_HWC.tobytes(): scenes[i].meta["questions"] for i in range(5)}  # type: ignore[union-attr]
    shown = []

    def knows(visual: Any, prompt: str) -> str:
        question, *lines = prompt.splitlines()
        shown.append(len(lines) - 1)
        truth = {one["question"]: one["answer"] for one in asked[visual.pixels_HWC.tobytes()]}.get(question)
        return next((line[0] for line in lines if line[3:] == truth), "?")

    found = evaluated(Writer(knows), scenes, blind="none").metrics
    assert found["circular"].value == 1.0 and set(shown) == {2, 4}
    assert {"circular_yes_no", "circular_colour", "circular_number"} <= set(found)


def test_what_cannot_be_asked_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="must be 2 or more"):
        evaluated(Writer(looks), str(folder), options=1)
    write(folder / "other.tsv", [])
    with pytest.raises(DataError, match=r"several tables \(mmbench_dev.tsv, other.tsv\): choose one with"):
        evaluated(Writer(looks), str(folder))
    with pytest.raises(DataError, match="holds no questions"):
        evaluated(Writer(looks), str(folder), file="other.tsv")
    with pytest.raises(DataError, match=r"no table at .*none.tsv"):
        evaluated(Writer(looks), str(folder), file="none.tsv")
    unanswered = (1, "Which?", "", "green", "red", "", "", "", "colour", picture("red"))
    write(folder / "other.tsv", [unanswered])
    with pytest.raises(DataError, match="none of the questions has its answer"):
        evaluated(Writer(looks), str(folder), file="other.tsv")
    damaged = (1, "Which?", "", "green", "red", "", "", "A", "colour", "%" * 100)
    write(folder / "other.tsv", [damaged])
    with pytest.raises(DataError, match="not one of 1 questions could be asked"):
        evaluated(Writer(looks), str(folder), file="other.tsv")
