"""Captioning: models whose captions are known, what they should get, and what cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import Held
from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError, MissingVerb, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.records.results import read_result, read_samples
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.visual import Image
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Records
from diptych.evaluation.benchmarks import captioning
from diptych.evaluation.benchmarks.captioning import Settings, run
from diptych.evaluation.metrics.captioning import BLEU_NAMES, caption_scores
from diptych.evaluation.runner import evaluate

SCENES = Scenes("test", 40, SceneConfig(size=32, min_objects=2))
BY_KEY = {sample.key: sample for sample in (SCENES[i] for i in range(len(SCENES)))}


class Captioner(Predictor):
    """Says the first thing that people say of the picture; remembers what it was asked."""

    VERBS: Any = ("generate_text",)

    def __init__(self) -> None:
        self.name, self.module = "captioner", torch.nn.Linear(1, 1)
        self.asked: list[str] = []
        self.prompts: list[list[Any]] = []
        self.seeds: dict[str, int] = {}
        self.sampling: TextSampling | None = None

    def generate_text(self, prompts: Any, sampling: Any = None, seeds: Any = 0) -> list[str]:
        names = [prompt[0].name for prompt in prompts]
        self.asked += names
        self.prompts += [list(prompt) for prompt in prompts]
        self.seeds |= dict(zip(names, seeds, strict=True))
        self.sampling = sampling
        return [self.say(name) for name in names]

    def say(self, name: str) -> str:
        return BY_KEY[name].texts[0]

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Captioner:
        return cls()


class Blind(Captioner):
    """Says the same of everything."""

    def say(self, name: str) -> str:
        return "a red circle and a blue square"


def test_who_says_what_people_say_gets_all_and_loses_it_on_other_pictures() -> None:
    records = Records(None, {})
    found = run(Captioner(), SCENES, Settings(), records).metrics
    for name in (*BLEU_NAMES, "rouge_l", "pair_precision", "pair_recall", "captions_with_a_pair"):
        assert found[name].value == pytest.approx(1.0, abs=1e-6), name
    own = [sample.texts[0] for sample in BY_KEY.values()]
    said = [list(sample.texts) for sample in BY_KEY.values()]
    assert found["cider"].value == pytest.approx(caption_scores(own, said)["cider"]) and found["cider"].unit == "number"
    assert 0.0 < found["cider"].chance < found["cider"].value / 2  # type: ignore[operator]
    for name in ("pair_precision", "pair_recall"):
        assert found[f"{name}_other_picture"].value == found[name].chance < 0.5  # type: ignore[operator]
    gain = found["cider_gain"]
    assert gain.value == pytest.approx(found["cider"].value - found["cider"].chance)  # type: ignore[operator]
    assert gain.low > 5 * found["cider_gain_standard_error"].value > 0  # type: ignore[operator]
    for key, record in records.done.items():
        assert record.output == BY_KEY[key].texts[0] and record.values["pair_recall"] == 1.0
    ciders = [record.values["cider"] for record in records.done.values()]
    assert np.mean(ciders) == pytest.approx(found["cider"].value)


def test_who_looks_at_nothing_gains_nothing_and_gets_what_the_constant_caption_would() -> None:
    outcome = run(Blind(), SCENES, Settings(), Records(None, {}))
    found = outcome.metrics
    for name in (*BLEU_NAMES, "rouge_l", "cider", "pair_precision", "pair_recall"):
        assert found[name].value == found[name].chance
    assert found["cider_gain"].value == found["cider_gain"].high == 0.0
    names = [{f"{one['colour']} {one['shape']}" for one in sample.meta["objects"]} for sample in BY_KEY.values()]
    right = [len({"red circle", "blue square"} & there) for there in names]
    assert found["pair_precision"].value == pytest.approx(np.mean(right) / 2)
    assert found["pair_recall"].value == pytest.approx(np.mean([a / len(b) for a, b in zip(right, names, strict=True)]))
    constant = outcome.extras["constant_caption"]
    said = [list(sample.texts) for sample in BY_KEY.values()]
    assert any(constant in texts for texts in said)
    whole = caption_scores([constant] * len(said), said)
    for name in ("bleu_4", "rouge_l", "cider"):
        assert found[f"{name}_constant_caption"].value == pytest.approx(whole[name])
    assert "cider_constant_caption" not in run(Blind(), SCENES, Settings(baseline=False), Records(None, {})).metrics


def test_intervals_hold_their_numbers_and_are_of_the_pictures() -> None:
    class Sometimes(Captioner):
        def say(self, name: str) -> str:
            return super().say(name) if int(name[-1]) % 2 else "a green star"

    found = run(Sometimes(), SCENES, Settings(), Records(None, {})).metrics
    for name in (*BLEU_NAMES, "rouge_l", "cider"):
        metric = found[name]
        assert metric.n == len(SCENES)
        assert metric.low < metric.value < metric.high  # type: ignore[operator]


def test_the_prompt_is_the_picture_and_seeds_are_of_the_sample() -> None:
    first, second = Captioner(), Captioner()
    run(first, SCENES, Settings(), Records(None, {}, seed=1))
    assert all(len(prompt) == 1 for prompt in first.prompts) and first.sampling == TextSampling()
    few = Held([SCENES[7], SCENES[3]])
    run(second, few, Settings(prompt="Describe it.", max_tokens=9, beams=3), Records(None, {}, seed=1))
    assert [prompt[1:] for prompt in second.prompts] == [["Describe it."]] * 2
    assert second.sampling == TextSampling(9, beams=3)
    assert second.seeds.items() <= first.seeds.items() and len(set(first.seeds.values())) == len(SCENES)


def test_the_gallery_shows_the_best_and_the_worst_beside_what_people_say() -> None:
    gallery = run(Captioner(), SCENES, Settings(), Records(None, {})).extras["gallery"]
    assert [entry["right"] for entry in gallery] == [True] * 4 + [False] * 4
    scores = [entry["top"][0]["score"] for entry in gallery]
    assert min(scores[:4]) >= max(scores[4:])
    for entry in gallery:
        sample = BY_KEY[entry["key"]]
        assert entry["truth"] == " / ".join(sample.texts) and entry["top"][0]["text"] == sample.texts[0]


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    class Impatient(Captioner):
        def generate_text(self, prompts: Any, sampling: Any = None, seeds: Any = 0) -> list[str]:
            if self.asked:
                raise KeyboardInterrupt
            return super().generate_text(prompts, sampling, seeds)

    whole = run(Captioner(), SCENES, Settings(), Records(None, {}))
    with pytest.raises(KeyboardInterrupt):
        run(Impatient(), SCENES, Settings(), Records(tmp_path, {}))
    again = Captioner()
    assert run(again, SCENES, Settings(), Records(tmp_path, {})) == whole
    assert 0 < len(again.asked) < len(SCENES)


def plain(key: str, *texts: str) -> Sample:
    return Sample(key, (Image(pixels_HWC=np.zeros((2, 2, 3), np.uint8), name=key),), texts)


PETS = Held([plain("a", "a dog runs", " "), plain("b", "a cat sits"), plain("c", " "), plain("d", "an old car")])


class Pets(Captioner):
    def say(self, name: str) -> str:
        return {"a": "A dog runs.", "b": "a cat", "d": ""}[name]


def test_photographs_have_no_coloured_shapes_and_no_caption_is_a_reason(tmp_path: Path) -> None:
    (result,) = evaluate(Pets(), ["captioning"], PETS, folder=tmp_path)
    assert not [name for name in result.metrics if name.startswith("pair") or name.startswith("captions")]
    assert (result.counts.evaluated, result.counts.failed) == (3, 1) and result.verbs == {"generate_text": "native"}
    by_hand = caption_scores(["A dog runs.", "a cat", ""], [["a dog runs"], ["a cat sits"], ["an old car"]])
    assert result.metrics["cider"].value == pytest.approx(by_hand["cider"])
    assert result.metrics["bleu_1"].value == pytest.approx(by_hand["bleu_1"])
    status = {record.key: record.status for record in read_samples(tmp_path / "captioning")}
    assert status == {"a": "ok", "b": "ok", "c": "no caption", "d": "ok"}


@pytest.mark.filterwarnings("ignore:CIDEr of one picture")
def test_what_cannot_be_captioned_is_counted_with_its_reason() -> None:
    class Picky(Pets):
        def generate_text(self, prompts: Any, sampling: Any = None, seeds: Any = 0) -> list[str]:
            names = [prompt[0].name for prompt in prompts]
            if "a" in names:
                raise BadSample("a", "truncated image")
            if "b" in names:
                raise TextTooLong("too long")
            return super().generate_text(prompts, sampling, seeds)

    records = Records(None, {})
    found = run(Picky(), PETS, Settings(), records).metrics
    status = {key: record.status for key, record in records.done.items()}
    assert status["a"] == "truncated image" and status["b"] == "skipped: the prompt does not fit"
    assert found["cider"].n == 1 and found["cider"].chance is None
    with pytest.raises(DataError, match="captioned not a single picture: 1 with truncated image"):
        run(Picky(), Held([PETS[0]]), Settings(), Records(None, {}))
    with pytest.raises(DataError, match="has no picture with a caption"):
        run(Pets(), Held([PETS[2]]), Settings(), Records(None, {}))


def test_settings_that_nobody_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown metric in Java 'meteors': did you mean 'meteor'"):
        Settings(java=("meteors",))
    with pytest.raises(ConfigError, match="max_tokens 0"):
        Settings(max_tokens=0)
    with pytest.raises(MissingVerb, match="captioner has no verb 'encode_image'"):
        run(Captioner(), SCENES, Settings(neighbours="scenes"), Records(None, {}))


class Seeing(Captioner):
    """Encodes a picture by its mean colours in 4 x 4 cells, a text by nothing."""

    VERBS = ("generate_text", "encode_image", "encode_text")

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        cells = [image.pixels_HWC.reshape(4, 8, 4, 8, 3).mean((1, 3)).ravel() - 128.0 for image in visuals]
        return torch.nn.functional.normalize(torch.tensor(np.array(cells), dtype=torch.float32))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.nn.functional.normalize(torch.ones(len(texts), 48))


class SeeingBlind(Seeing, Blind):
    """Encodes pictures, and says the same of everything."""

    def say(self, name: str) -> str:
        return Blind.say(self, name)


def test_neighbours_in_the_training_data_give_captions() -> None:
    train = "scenes?count=60&size=32&min_objects=2"
    outcome = run(Seeing(), SCENES, Settings(neighbours=train), Records(None, {}))
    found = outcome.metrics
    assert {"cider_nearest_picture", "cider_consensus_of_30"} <= found.keys()
    assert found["cider"].value > found["cider_consensus_of_30"].value > 0
    assert outcome.verbs == ("generate_text", "encode_image")
    with pytest.raises(DataError, match="60 of the pictures to caption are also in the training data"):
        same = Scenes("train", 60, SceneConfig(size=32, min_objects=2))
        run(SeeingBlind(), same, Settings(neighbours=train), Records(None, {}))


def test_a_judge_says_how_well_captions_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Seeing()
    asked = []
    monkeypatch.setattr(captioning, "judge_from", lambda reference, device: asked.append(reference) or judge)
    records = Records(None, {})
    found = run(Captioner(), SCENES, Settings(judge="runs/clip"), records).metrics
    assert asked == ["runs/clip"]
    image_ND = judge.encode_image([sample.image for sample in BY_KEY.values() if sample.key in records.done])
    clip = 2.5 * (image_ND @ judge.encode_text([""]).T).clamp(min=0)
    assert found["clip_score"].value == pytest.approx(clip.mean().item(), rel=1e-5)
    # Every text has one vector, so a caption fits as well as another and is as near as can be to its references.
    assert found["clip_score"].value == pytest.approx(found["clip_score"].chance)
    assert found["clip_score_first_reference"].value == pytest.approx(found["clip_score"].value)
    both = 2 * clip / (clip + 1)
    assert found["ref_clip_score"].value == pytest.approx(both.mean().item(), rel=1e-5)
    assert all({"clip_score", "ref_clip_score"} <= record.values.keys() for record in records.done.values())


@pytest.mark.parametrize("say", ["", "a", "a red circle " * 30, "\u65e5\u672c \x00"])
def test_whatever_is_said_the_file_holds_finite_numbers_inside_their_intervals(say: str, tmp_path: Path) -> None:
    class Says(Captioner):
        def say(self, name: str) -> str:
            return say

    (result,) = evaluate(Says(), ["captioning"], captioning.tiny_data(tmp_path), folder=tmp_path)
    assert result.counts.evaluated == 12 and read_result(tmp_path / "captioning") == result
    for name, metric in result.metrics.items():
        assert np.isfinite(metric.value), name
        if metric.low is not None and metric.high is not None:
            assert metric.low <= metric.value <= metric.high, name
        if metric.chance is not None and metric.unit == "share":
            assert 0 <= metric.chance <= 1, name
