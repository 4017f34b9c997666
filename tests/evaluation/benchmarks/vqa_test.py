"""Made-up answerers on official files, on scenes and on conversations: every number by hand."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from answerers import Narrator, Scorer, Writer, colour_of

from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Result, read_samples
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.report import write_report
from diptych.evaluation.runner import evaluate

COLOURS = {1: "red", 2: "lime", 3: "blue"}


def evaluated(model: Any, data: Any, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["vqa"], data, folder=folder, settings={"vqa": settings})
    return result


def write(path: Path, plain: Any) -> None:
    path.write_text(json.dumps(plain), encoding="utf-8")


def people(**counts: int) -> list[dict[str, Any]]:
    said = [answer for answer, count in counts.items() for _ in range(count)]
    return [{"answer": answer, "answer_id": place} for place, answer in enumerate(said, 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures and four questions as VQA v2 has them."""
    (tmp_path / "images" / "val2014").mkdir(parents=True)
    for number, colour in COLOURS.items():
        PIL.Image.new("RGB", (20, 20), colour).save(tmp_path / "images" / "val2014" / f"COCO_val2014_{number:012d}.jpg")
    asked = [(10, 1, "what colour?"), (20, 2, "what colour?"), (30, 3, "what colour?"), (11, 1, "is it red?")]
    questions = [{"question_id": key, "image_id": image, "question": text} for key, image, text in asked]
    answers = {10: people(red=3, pink=7), 20: people(green=10), 30: people(blue=6, navy=4), 11: people(yes=9, no=1)}
    annotations = [
        {"question_id": key, "image_id": 0, "answers": said, "answer_type": "yes/no" if key == 11 else "other"}
        for key, said in answers.items()
    ]
    write(tmp_path / "v2_Questions_val2014.json", {"data_subtype": "val2014", "questions": questions})
    write(tmp_path / "v2_annotations_val2014.json", {"annotations": annotations})
    return tmp_path


def sees(visual: Any, question: str) -> str:
    return ("yes" if colour_of(visual) == "red" else "no") if "is it" in question else colour_of(visual)


def test_the_official_files(folder: Path) -> None:
    result = evaluated(Writer(sees), str(folder), folder / "out")
    found = result.metrics
    assert found["accuracy"].value == pytest.approx((0.9 + 1 + 1 + 1) / 4)
    assert found["accuracy_other"].value == pytest.approx((0.9 + 1 + 1) / 3)
    assert found["accuracy_yes_no"].value == 1.0
    assert found["accuracy_all_answers"].value == 1.0
    assert found["accuracy"].n == 3  # pictures are the units
    # Another picture: "no" was said once (0.3), and no colour of another picture is right here.
    assert found["accuracy_other_picture"].value == pytest.approx(0.3 / 4)
    assert found["accuracy_gain"].value == pytest.approx((0.9 + 1 + 1 + 0.7) / 4)
    # The best single answer: one colour of three for "other", "yes" for "yes/no".
    assert found["accuracy_other"].chance == pytest.approx(1 / 3)
    assert found["accuracy"].chance == pytest.approx((3 * (1 / 3) + 1) / 4)
    assert result.verbs == {"answer": "native"}
    lines = {record.key: record for record in read_samples(folder / "out" / "vqa")}
    assert lines["10"].output["answer"] == "red" and lines["10"].values["accuracy"] == pytest.approx(0.9)
    assert (result.counts.evaluated, result.counts.failed, result.counts.skipped) == (4, 0, 0)
    assert {row["key"] for row in result.extras["pictures"]} == {"10", "20", "30", "11"}


def test_who_does_not_look_gains_nothing(folder: Path) -> None:
    blind = evaluated(Writer(lambda _, question: "yes" if "is it" in question else "pink"), str(folder)).metrics
    assert blind["accuracy"].value == blind["accuracy_other_picture"].value == pytest.approx((1 + 1) / 4)
    assert (blind["accuracy_gain"].value, blind["accuracy_gain_standard_error"].value) == (0.0, 0.0)
    grey = evaluated(Writer(sees), str(folder), blind="grey").metrics
    assert grey["accuracy_grey_picture"].value == pytest.approx((0.9 + 0 + 0 + 1) / 4)  # argmax of grey is red
    assert "accuracy_other_picture" not in evaluated(Writer(sees), str(folder), blind="none").metrics


def test_other_verbs(folder: Path) -> None:
    wanted = evaluated(Writer(sees), str(folder)).metrics["accuracy"].value
    narrated = evaluated(Narrator(sees), str(folder))
    assert narrated.metrics["accuracy"].value == wanted and narrated.verbs == {"generate_text": "native"}
    chosen = evaluated(Scorer(sees), str(folder))
    assert chosen.metrics["accuracy"].value == wanted
    assert chosen.verbs == {"answer": "highest score over the choices"}
    assert chosen.extras["notes"][0] == (
        "Chosen from the 7 commonest answers of these questions, which a user would not know."
    )
    (folder / "answers.txt").write_text("green\nno\n")
    few = evaluated(Scorer(sees), str(folder), candidates=str(folder / "answers.txt"))
    assert few.metrics["accuracy"].value == pytest.approx((0 + 1 + 0 + 0) / 4)


def test_the_prompt_is_recorded_as_it_was_put(folder: Path) -> None:
    model = Writer(sees)
    evaluated(model, str(folder), folder / "out", prompt="{} One word.", blind="none")
    assert set(model.asked) == {"what colour? One word.", "is it red? One word."}
    assert {record.prompt for record in read_samples(folder / "out" / "vqa")} == set(model.asked)
    with pytest.raises(ConfigError, match=r"has no \{\}"):
        evaluated(model, str(folder), prompt="Answer.")


def test_an_interrupted_evaluation_goes_on(folder: Path) -> None:
    whole = evaluated(Writer(sees), str(folder), folder / "out")
    again = Writer(sees)
    assert evaluated(again, str(folder), folder / "out").metrics == whole.metrics
    assert again.asked == []


def test_documents(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (20, 20), "red").save(tmp_path / "page.png")
    entries = [
        {"questionId": 5, "question": "which colour?", "image": "documents/page.png", "answers": ["rod", "purple"]},
        {"questionId": 6, "question": "which colour?", "image": "documents/page.png", "answers": ["Red"]},
        {"questionId": 7, "question": "which colour?", "image": "documents/page.png", "answers": ["blueish"]},
    ]
    write(tmp_path / "val_v1.0.json", {"dataset_name": "docvqa", "data": entries})
    found = evaluated(Writer(sees), str(tmp_path), score="anls").metrics
    assert found["anls"].value == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["accuracy"].value == pytest.approx(1 / 3)
    assert next(iter(found)) == "anls"


def test_a_list_with_everything(tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        PIL.Image.new("RGB", (20, 20), colour).save(tmp_path / f"{colour}.png")
    rows = [
        {"image": f"{colour}.png", "question": "what colour?", "answers": people(red=10), "answer_type": "other"}
        for colour in ("red", "blue")
    ]
    write(tmp_path / "val.json", rows)
    result = evaluated(Writer(sees), str(tmp_path), tmp_path / "out")
    assert result.metrics["accuracy"].value == 0.5
    assert {record.key for record in read_samples(tmp_path / "out" / "vqa")} == {"red.png", "blue.png"}
    write(tmp_path / "val.json", [{"question": "what colour?", "answers": []}])
    with pytest.raises(DataError, match="entry 0 has no image"):
        evaluated(Writer(sees), str(tmp_path))


def test_charts(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (20, 20), "red").save(tmp_path / "chart.png")
    labels = ("104", "Red", "106")
    write(tmp_path / "test_human.json", [{"imgname": "chart.png", "query": "how many?", "label": x} for x in labels])
    found = evaluated(Writer(lambda *_: "100"), str(tmp_path), score="relaxed", blind="grey").metrics
    assert found["relaxed"].value == found["relaxed_grey_picture"].value == pytest.approx(1 / 3)  # 104, and not 106
    assert found["accuracy"].value == 0.0


def test_scenes_and_their_report(tmp_path: Path) -> None:
    scenes = Scenes("test", 6, SceneConfig(size=32, min_objects=2, words=0))
    truth = {
        (scenes[index].image.pixels_HWC.tobytes(), asked["question"]): asked["answer"]  # type: ignore[union-attr]
        for index in range(6)
        for asked in scenes[index].meta["questions"]
    }
    knows = Writer(lambda visual, question: truth.get((visual.pixels_HWC.tobytes(), question), "no"))
    result = evaluated(knows, scenes, tmp_path / "run" / "evaluation")
    kinds = ("number", "yes_no", "colour", "place", "shape")
    assert all(result.metrics[f"accuracy_{kind}"].value == 1.0 for kind in ("number", "yes_no"))
    assert {name for name in result.metrics if name.startswith("accuracy_")} >= {f"accuracy_{kind}" for kind in kinds}
    assert result.metrics["accuracy_yes_no"].chance == 0.5
    assert result.metrics["accuracy_other_picture"].value < 0.7
    assert result.counts.evaluated == 6
    (tmp_path / "run" / "config.yaml").write_text("name: made\n")
    page = write_report([tmp_path / "run"]).read_text("utf-8")
    assert "Questions and answers" in page and "how many objects are there?" in page


def test_conversations_of_one_answer(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (20, 20), "blue").save(tmp_path / "a.png")
    ask = {"from": "human", "value": "<image>\nwhat colour?"}
    talks = [
        {"id": "one", "image": "a.png", "conversations": [ask, {"from": "gpt", "value": "Blue."}]},
        {"id": "two", "image": "a.png", "conversations": [ask, {"from": "gpt", "value": "blue"}] * 2},
        {"id": "none", "image": "a.png", "conversations": [ask, {"from": "gpt", "value": " "}]},
    ]
    write(tmp_path / "talk.json", talks)
    result = evaluated(Writer(sees), str(tmp_path / "talk.json"), tmp_path / "out")
    assert result.metrics["accuracy"].value == 1.0
    status = {record.key: record.status for record in read_samples(tmp_path / "out" / "vqa")}
    assert status == {
        "one": "ok",
        "two": "skipped: no single question with its answer about one picture",
        "none": "skipped: no answers",
    }


def test_pictures_that_are_not_there_are_counted(folder: Path) -> None:
    (folder / "images" / "val2014" / "COCO_val2014_000000000002.jpg").unlink()
    counts = evaluated(Writer(sees), str(folder), blind="none").counts
    assert (counts.evaluated, counts.skipped) == (3, 1)
    for path in (folder / "images" / "val2014").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="not one of 4 questions could be asked: 4 with skipped: no picture"):
        evaluated(Writer(sees), str(folder))
    with pytest.raises(DataError, match="no folder of pictures at nowhere"):
        evaluated(Writer(sees), str(folder), images="nowhere")


def test_files_that_do_not_belong_together_are_refused(folder: Path) -> None:
    annotations, questions = folder / "v2_annotations_val2014.json", folder / "v2_Questions_val2014.json"
    plain = json.loads(annotations.read_text())
    stranger = {"question_id": 99, "answers": people(red=10)}
    write(annotations, {"annotations": [*plain["annotations"], stranger]})
    with pytest.raises(DataError, match=r"question 99 has no question in v2_Questions_val2014.json"):
        evaluated(Writer(sees), str(folder))
    write(annotations, {"annotations": [{"question_id": 10, "answers": people(red=4, pink=6)}]})
    counts = evaluated(Writer(sees), str(folder), blind="none").counts
    assert (counts.evaluated, counts.skipped) == (1, 3)
    write(annotations, {"annotations": [{"question_id": 10, "answers": []}]})
    with pytest.raises(DataError, match="none of the questions has an answer of people"):
        evaluated(Writer(sees), str(folder))
    write(annotations, {"annotation": []})
    with pytest.raises(DataError, match="has no list of 'annotations', which the official file has"):
        evaluated(Writer(sees), str(folder))
    annotations.unlink()
    with pytest.raises(DataError, match="has no file of annotations"):
        evaluated(Writer(sees), str(folder))
    write(annotations, {"annotations": []})
    write(questions, {"questions": []})
    with pytest.raises(DataError, match="holds no questions"):
        evaluated(Writer(sees), str(folder))
    write(folder / "more_questions.json", {"questions": []})
    with pytest.raises(DataError, match=r"several files of questions \(more.*choose one with --set vqa.questions=NAME"):
        evaluated(Writer(sees), str(folder))
    with pytest.raises(DataError, match=r"no file at .*train.json: vqa.questions names a file"):
        evaluated(Writer(sees), str(folder), questions="train.json")


def test_vizwiz_as_it_is_published(shared_data: Path, tmp_path: Path) -> None:
    files = shared_data / "eval" / "vizwiz"
    if not files.is_dir():
        pytest.skip(f"no VizWiz at {files}")
    for number in range(40):
        PIL.Image.new("RGB", (8, 8), "blue").save(tmp_path / f"VizWiz_val_{number:08d}.jpg")
    (result,) = evaluate(
        Writer(lambda *_: "unanswerable"),
        ["vqa"],
        str(files),
        settings={"vqa": {"images": str(tmp_path), "blind": "none"}},
    )
    assert (result.counts.evaluated, result.counts.skipped) == (40, 4319 - 40)
    found = result.metrics
    for kind in ("unanswerable", "other"):  # it is the commonest thing that is said of either
        assert found[f"accuracy_{kind}"].value == pytest.approx(found[f"accuracy_{kind}"].chance)
    assert found["accuracy_unanswerable"].value > 0.9 > found["accuracy_other"].value > 0.1
