"""Boxes as public models write them: every form by hand, what is asked, and the models that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from public_vlms import ALL, picture

from diptych.capabilities.folder import read_model, write_model
from diptych.capabilities.load import load
from diptych.core.errors import DiptychError, MissingVerb
from diptych.core.sampling import TextSampling
from diptych.core.visual import Box
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.runner import evaluate
from diptych.models.pretrained_backbone._public_boxes import FORMATS, Seen
from diptych.models.pretrained_backbone._public_predictor import PointingPredictor

SEEN, GIVEN = Seen(560, 280), Seen(400, 200)
_POINTING = ("paligemma", "qwen2_vl", "qwen2_5_vl")


def read(kind: str, said: str) -> Box | None:
    return FORMATS[kind].first_box(said, SEEN, GIVEN, "cat")


@pytest.mark.parametrize(
    ("kind", "said", "corners"),
    [
        ("paligemma", "<loc0256><loc0512><loc0768><loc1023> cat", (200, 50, 400 * 1023 / 1024, 150)),
        ("paligemma", "<loc0000><loc0000><loc0512><loc0256> cat ; <loc0256><loc0512><loc0768><loc1023> cat",
         (0, 0, 100, 100)),
        ("qwen2_vl", "<|box_start|>(250,500),(750,1000)<|box_end|>", (100, 100, 300, 200)),
        ("qwen2_vl", "(250,500),(750,1000)", (100, 100, 300, 200)),
        ("qwen2_vl", "the cat(0, 0), (500, 500) and another (250,500),(750,1000)", (0, 0, 200, 100)),
        ("qwen2_5_vl", '```json\n[\n\t{"bbox_2d": [56, 28, 280, 140], "label": "cat"}\n]\n```', (40, 20, 200, 100)),
        ("qwen2_5_vl", '[{"label": "cat", "bbox_2d": [56.0,28.5,280,140]', (40, 28.5 / 1.4, 200, 100)),
        ("qwen2_5_vl", '{"bbox_2d": [56, 28, 600, 300]}', (40, 20, 400, 200)),
    ],
)  # fmt: skip
def test_a_box_as_it_is_written(kind: str, said: str, corners: tuple[float, ...]) -> None:
    box = read(kind, said)
    assert box is not None and box.label == "cat"
    assert astuple(box)[:4] == pytest.approx(corners)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("paligemma", "cat"),
        ("paligemma", "<loc0256><loc0512><loc0768> cat"),
        ("paligemma", "<loc0768><loc0512><loc0256><loc1023> cat"),
        ("qwen2_vl", "the cat is at (250,500)"),
        ("qwen2_vl", "(250,500),(250,1000)"),
        ("qwen2_vl", "(1100,500),(1200,800)"),
        ("qwen2_5_vl", '{"bbox_2d": [56, 28, 280], "label": "cat"}'),
        ("qwen2_5_vl", '{"point_2d": [56, 28]}'),
        ("qwen2_5_vl", '{"bbox_2d": [280, 28, 56, 140]}'),
    ],
)
def test_what_is_no_box(kind: str, said: str) -> None:
    """Too few numbers, corners out of order, no area inside the picture."""
    assert read(kind, said) is None


def test_the_first_box_with_an_area_counts() -> None:
    box = read("qwen2_vl", "(250,500),(250,1000) or rather (250,500),(750,1000)")
    assert box is not None and astuple(box)[:4] == pytest.approx((100, 100, 300, 200))


@pytest.fixture(scope="module", params=_POINTING)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PointingPredictor:
    folder = tmp_path_factory.mktemp(request.param)
    ALL[request.param](folder)
    loaded = load(folder)
    assert isinstance(loaded, PointingPredictor)
    return loaded


_QUESTIONS = {
    "paligemma": "detect red circle",
    "qwen2_vl": "Find <|object_ref_start|>red circle<|object_ref_end|>",
    "qwen2_5_vl": "Locate red circle, output its bbox coordinates using JSON format.",
}
_SAID = {
    "paligemma": "<loc0256><loc0512><loc0768><loc1023> red circle",
    "qwen2_vl": "(500,250),(999,750)",
    "qwen2_5_vl": '[{"bbox_2d": [28, 7, 56, 21], "label": "red circle"}]',
}
_BOXES = {
    "paligemma": (40, 15, 80 * 1023 / 1024, 45),
    "qwen2_vl": (40, 15, 79.92, 45),
    "qwen2_5_vl": (40, 15, 80, 45),  # 80 by 60 pixels are seen as 56 by 28
}


def test_it_is_asked_in_its_own_way_and_its_box_is_in_pixels_of_the_picture(
    model: PointingPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = str(model.public.module.config.model_type)  # type: ignore[union-attr]
    asked: list[str] = []

    def say(rows: Sequence[Any], sampling: TextSampling, seeds: Sequence[int]) -> list[str]:
        words = model.reader.tokenizer
        asked.extend(words.decode(row.inputs["input_ids"][0].tolist()) for row in rows)
        return [_SAID[kind]] * len(rows)

    monkeypatch.setattr(model, "_written", say)
    (box,) = model.locate([picture(3, 60, 80)], ["red circle"])
    assert _letters(_QUESTIONS[kind]) in _letters(asked[0])  # the tokenizer is one of small letters
    assert box is not None and box.label == "red circle"
    assert astuple(box)[:4] == pytest.approx(_BOXES[kind])


def _letters(text: str) -> str:
    return "".join(text.lower().split())


def test_it_meets_the_benchmark_and_what_is_no_box_is_a_miss(model: PointingPredictor, tmp_path: Path) -> None:
    """Random models write none, but for PaliGemma's, most of whose words at their smallest are places."""
    assert "locate" in model.verbs and model.how("locate") == "native"
    points = model.public.module.config.model_type == "paligemma"  # type: ignore[union-attr]
    for box in model.locate([picture(0), picture(1)], ["a star", "two"]):
        assert box is None or (points and 0 <= box.x0 < box.x1 <= 40 and 0 <= box.y0 < box.y1 <= 30)
    source = Scenes("test", 4, SceneConfig(size=32, objects=1))
    found = evaluate(model, ["grounding"], source, folder=tmp_path / "results")[0].metrics
    assert points or (found["unlocated"].value == 1.0 and found["accuracy"].value == 0.0)
    assert found["accuracy"].value <= 1 - found["unlocated"].value
    assert found["accuracy_centre_box"].value > 0
    folder = tmp_path / "saved"
    folder.mkdir()
    write_model(model, folder)
    assert type(read_model(folder)) is PointingPredictor


def test_what_a_phrase_may_not_say(model: PointingPredictor) -> None:
    control = sorted(model.reader.tokenizer.all_special_tokens)[-1]
    with pytest.raises(DiptychError, match="which only the template may"):
        model.locate([picture(0)], [f"a {control} star"])
    with pytest.raises(DiptychError):
        model.locate([picture(0)], ["one", "two"])


@pytest.mark.parametrize("kind", ["llava_next", "idefics2", "idefics3"])
def test_a_model_whose_boxes_are_not_known_refuses_by_name(kind: str, tmp_path: Path) -> None:
    ALL[kind](tmp_path)
    loaded = load(tmp_path)
    with pytest.raises(MissingVerb, match=r"has no verb 'locate': it offers answer, generate_text"):
        loaded.locate([picture(0)], ["a star"])
