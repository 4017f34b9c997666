"""CHAIR on COCO's files and on scenes: planted hallucinations are counted exactly."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from answerers import Narrator, colour_of

from diptych.capabilities.generator import GREEDY
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Result, read_samples
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import SceneClips, Scenes
from diptych.evaluation.runner import evaluate


class Teller(Narrator):
    def generate_text(self, prompts: Any, sampling: Any = GREEDY, seeds: Any = 0) -> list[str]:
        return [self.says(prompt[0], " ".join(prompt[1:])) for prompt in prompts]


def evaluated(model: Any, data: Any, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["chair"], data, folder=folder, settings={"chair": settings})
    return result


def write(path: Path, plain: Any) -> None:
    path.write_text(json.dumps(plain), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A red picture with a dog and a person, and a blue one with a cup, by the captions with a table too."""
    (tmp_path / "images").mkdir()
    for number, colour in ((1, "red"), (2, "blue")):
        PIL.Image.new("RGB", (20, 20), colour).save(tmp_path / "images" / f"COCO_val2014_{number:012d}.jpg")
    categories = [{"id": i, "name": name} for i, name in enumerate(["person", "dog", "cup", "dining table"])]
    pairs = [(1, 0), (1, 1), (2, 2)]
    annotations = [{"image_id": image, "category_id": category} for image, category in pairs]
    instances = {"images": [{"id": 1}, {"id": 2}], "categories": categories, "annotations": annotations}
    write(tmp_path / "instances_val2014.json", instances)
    captions = [{"image_id": 2, "caption": "A mug on a desk."}, {"image_id": 77, "caption": "not of these"}]
    write(tmp_path / "captions_val2014.json", {"annotations": captions})
    (tmp_path / "synonyms.txt").write_text("person, man\ndog, puppy\ncup, mug\ndining table, table, desk\n")
    return tmp_path


def test_planted_hallucinations(folder: Path) -> None:
    said = {"red": "A man with a puppy and a puppy at a table.", "blue": "Cups on the desk."}
    result = evaluated(Teller(lambda visual, _: said[colour_of(visual)]), str(folder), folder / "out")
    found = result.metrics
    assert found["chair_i"].value == pytest.approx(1 / 6)  # 4 + 2 mentions, the table is not there
    assert found["chair_s"].value == 0.5
    assert found["recall"].value == 1.0  # person, dog, cup and table
    assert found["mentions_a_caption"].value == 3.0
    # Of the other picture: person, dog, dog are absent and the table is there; cup and table are absent.
    assert found["chair_i_other_picture"].value == pytest.approx(5 / 6)
    assert found["chair_s_other_picture"].value == 1.0
    assert found["recall"].chance == pytest.approx(1 / 4)
    line = next(record for record in read_samples(folder / "out" / "chair") if record.key == "1")
    assert line.output["mentions"] == ["person", "dog", "dog", "dining table"]
    assert line.output["objects"] == ["dog", "person"]
    assert "not there: dining table" in result.extras["pictures"][0]["images"][0]["title"]


def test_without_synonyms_or_captions_the_result_says_so(folder: Path) -> None:
    teller = Teller(lambda *_: "a man, a mug and a dining table")
    (folder / "captions_val2014.json").unlink()
    found = evaluated(teller, str(folder))
    assert found.metrics["recall"].value == pytest.approx(2 / 3)
    (folder / "synonyms.txt").unlink()
    plain = evaluated(teller, str(folder))
    assert plain.metrics["recall"].value == 0.0 and plain.metrics["chair_i"].value == 1.0
    assert any("No synonyms.txt" in note for note in plain.extras["notes"])
    assert any("No captions" in note for note in plain.extras["notes"])


def test_who_says_nothing_hallucinates_nothing_and_recalls_nothing(folder: Path) -> None:
    found = evaluated(Teller(lambda *_: ""), str(folder)).metrics
    assert "chair_i" not in found
    assert (found["chair_s"].value, found["recall"].value) == (0.0, 0.0)


def test_scenes_know_their_objects() -> None:
    scenes = Scenes("test", 8, SceneConfig(size=32, min_objects=2))
    captions = {scenes[i].image.pixels_HWC.tobytes(): scenes[i].texts[0] for i in range(8)}  # type: ignore[union-attr]
    true = evaluated(Teller(lambda visual, _: captions[visual.pixels_HWC.tobytes()]), scenes).metrics
    assert (true["chair_i"].value, true["chair_s"].value, true["recall"].value) == (0.0, 0.0, 1.0)
    assert true["chair_i_other_picture"].value > 0.5
    one = evaluated(
        Teller(lambda visual, _: f"{captions[visual.pixels_HWC.tobytes()]}, six purple rings"), scenes
    ).metrics
    rings = sum("purple ring" in scenes[i].meta["present"] for i in range(8))
    assert one["chair_s"].value == pytest.approx((8 - rings) / 8)


def test_the_prompt_is_behind_the_picture(folder: Path) -> None:
    asked = []
    evaluated(Teller(lambda _, prompt: asked.append(prompt) or "a dog"), str(folder), prompt="Describe it.")
    assert set(asked) == {"Describe it."}


def test_what_cannot_be_read_is_refused(folder: Path) -> None:
    teller = Teller(lambda *_: "a dog")
    with pytest.raises(DataError, match="has no scenes: chair reads scenes, or"):
        evaluated(teller, SceneClips("test", 2))
    with pytest.raises(DataError, match="no file of synonyms at nowhere"):
        evaluated(teller, str(folder), synonyms="nowhere")
    with pytest.raises(ConfigError, match="must be 1 or more"):
        evaluated(teller, str(folder), max_tokens=0)
    (folder / "synonyms.txt").write_text("person\ndog\ncup\n")
    with pytest.raises(DataError, match="the synonyms do not know the category 'dining table'"):
        evaluated(teller, str(folder))
    instances = json.loads((folder / "instances_val2014.json").read_text())
    stranger = {"image_id": 9, "category_id": 0}
    (folder / "synonyms.txt").unlink()
    write(folder / "instances_val2014.json", instances | {"annotations": [stranger]})
    with pytest.raises(DataError, match="an annotation is of picture 9, which its images do not have"):
        evaluated(teller, str(folder))
    write(folder / "instances_val2014.json", {"images": []})
    with pytest.raises(DataError, match="has no list of 'categories'"):
        evaluated(teller, str(folder))
    write(folder / "instances_val2014.json", instances)
    write(folder / "instances_train2014.json", instances)
    with pytest.raises(DataError, match=r"should have one file instances\*.json, and has: instances_train2014.json, "):
        evaluated(teller, str(folder))
    (folder / "instances_train2014.json").unlink()
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="not one of 2 pictures could be described"):
        evaluated(teller, str(folder))
