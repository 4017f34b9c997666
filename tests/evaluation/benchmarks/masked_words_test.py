"""Hidden words: what is hidden, what the other picture is, and a model that reads pictures beside one that is blind."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from diptych.core.errors import ConfigError, DataError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.scenes.world import COLOURS, SHAPES
from diptych.data.words.cloze import MASK
from diptych.evaluation.benchmark import Records
from diptych.evaluation.benchmarks.masked_words import Settings, run
from diptych.evaluation.masked.hidden_words import frequent_words, hide_some, questions, words_of

SCENES = Scenes("test", 60, SceneConfig(size=32, min_objects=2))
BY_KEY = {sample.key: sample for sample in (SCENES[i] for i in range(len(SCENES)))}


class Blind:
    """Says the first choice, whatever it is shown; remembers what it was asked."""

    VERBS = ("fill_text",)
    name = "blind"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def fill_text(
        self, visuals: Sequence[Any], texts: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[list[str]]:
        self.asked += [(image.name, text) for image, text in zip(visuals, texts, strict=True)]
        allowed = choices or [["thing"]] * len(texts)
        return [[self.word(*one)] for one in zip(visuals, texts, allowed, strict=True)]

    def word(self, image: Image, text: str, allowed: Sequence[str]) -> str:
        return allowed[0]


class Reader(Blind):
    """Knows what is said of each picture: finds the word whenever the caption is of the picture."""

    def word(self, image: Image, text: str, allowed: Sequence[str]) -> str:
        said = BY_KEY[image.name].texts
        return next((word for word in allowed if text.replace(MASK, word) in said), allowed[0])


def test_who_reads_the_picture_finds_the_word_and_loses_it_with_another() -> None:
    records = Records(None, {})
    found = run(Reader(), SCENES, Settings(), records).metrics
    for group, choices in (("colour", list(COLOURS)), ("shape", list(SHAPES))):
        asked = [record for key, record in records.done.items() if key.endswith(f"#{group}")]
        assert found[group].value == 1.0 and found[group].chance == 1 / len(choices)
        by_chance = np.mean([record.output["truth"] == choices[0] for record in asked])
        assert found[f"{group}_other_picture"].value == pytest.approx(by_chance)
        gains = [1 - record.values[f"{group}_other_picture"] for record in asked]
        assert found[f"{group}_gain"].value == pytest.approx(np.mean(gains))
        assert found[f"{group}_gain"].low > 0.5  # type: ignore[operator]
        error = np.std(gains, ddof=1) / np.sqrt(len(gains))
        assert found[f"{group}_gain_standard_error"].value == pytest.approx(error)
        counts = [sum(record.output["truth"] == word for record in asked) for word in choices]
        assert found[f"{group}_majority"].value == pytest.approx(max(counts) / len(asked))


def test_the_gallery_shows_captions_with_what_was_said() -> None:
    gallery = run(Blind(), SCENES, Settings(), Records(None, {})).extras["gallery"]
    assert [entry["right"] for entry in gallery] == [True] * 4 + [False] * 4
    for entry in gallery:
        assert entry["truth"] in BY_KEY[entry["key"]].texts
        assert (entry["top"][0] == entry["truth"]) is entry["right"] and MASK not in entry["top"][0]


def test_a_blind_model_gains_nothing() -> None:
    found = run(Blind(), SCENES, Settings(), Records(None, {})).metrics
    for group in ("colour", "shape"):
        gain = found[f"{group}_gain"]
        assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)
        assert found[group].value == found[f"{group}_other_picture"].value < 0.35


def test_every_question_hides_one_true_word_which_is_false_of_the_other_picture() -> None:
    samples = list(BY_KEY.values())
    asked, skipped = questions(samples, 100, seed=0)
    assert not skipped and {question.group for question in asked} == {"colour", "shape"}
    for question in asked:
        own, other = samples[question.sample], samples[question.other]
        assert question.text.count(MASK) == 1
        assert question.text.replace(MASK, question.truth) in own.texts
        said = {one["colour"] for one in own.meta["objects"]} | {one["shape"] for one in own.meta["objects"]}
        shown = {one["colour"] for one in other.meta["objects"]} | {one["shape"] for one in other.meta["objects"]}
        assert question.truth in said - shown and question.truth in question.choices
        if question.group == "colour":  # "an [MASK] star" is an orange one
            assert f"a {MASK}" not in question.text and f"an {MASK}" not in question.text
    assert questions(samples, 100, seed=0)[0] == asked != questions(samples, 100, seed=1)[0]
    backwards = questions(samples[::-1], 100, seed=0)[0]
    assert {(q.text, samples[::-1][q.other].key) for q in backwards} == {(q.text, samples[q.other].key) for q in asked}


class Captions:
    """Pictures with a caption each."""

    name = "captions"

    def __init__(self, *texts: str) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def keys(self) -> list[str]:
        return [f"k{i}" for i in range(len(self))]

    def fingerprint(self) -> str:
        return "captions"

    def __getitem__(self, index: int) -> Sample:
        image = Image(pixels_HWC=np.zeros((2, 2, 3), np.uint8), name=f"k{index}")
        return Sample(f"k{index}", (image,), (self._texts[index],))


PETS = Captions(
    "A dog runs on the grass .", "a dog and a cat in the snow", "a cat on the roof", "all of them, and .", " ", "a boat"
)


def test_words_with_content_are_hidden_where_the_data_are_no_scenes() -> None:
    samples = [PETS[i] for i in range(len(PETS))]
    assert frequent_words(samples, 2) == ("cat", "dog")
    assert frequent_words(samples, 4) == ("boat", "cat", "dog", "grass")
    assert words_of(samples[0]) == {"a", "dog", "runs", "on", "the", "grass"}
    assert hide_some(samples[0], "content", ("cat", "dog"), 0) == [(f"A {MASK} runs on the grass .", "dog")]
    assert hide_some(samples[3], "content", (), 0) == []  # "them," stands beside a comma, the others say nothing
    records = Records(None, {})
    model = Blind()
    found = run(model, PETS, Settings(vocabulary=2), records).metrics
    assert found["content"].chance == 0.5 and found["content"].n == 3
    status = {key: record.status for key, record in records.done.items()}
    assert status["k4"] == "no caption" and status["k5"] == status["k3"] == "skipped: no word to hide"
    for record in records.done.values():
        if record.status == "ok":  # never a picture whose captions say the word too
            assert record.output["truth"] not in words_of(PETS[int(record.output["other_picture"][1:])])


def test_any_word_may_be_asked_for() -> None:
    class Dogs(Blind):
        def fill_text(self, visuals: Any, texts: Any, choices: Any = None) -> list[list[str]]:
            assert choices is None
            return [[" Dog "] for _ in texts]

    records = Records(None, {})
    found = run(Dogs(), PETS, Settings(vocabulary=0), records).metrics
    assert found["content"].chance is None
    dogs = [record.output["truth"] == "dog" for record in records.done.values() if record.status == "ok"]
    assert found["content"].value == pytest.approx(np.mean(dogs))


def test_what_cannot_be_asked_is_counted_with_its_reason() -> None:
    class Picky(Blind):
        def fill_text(self, visuals: Any, texts: Any, choices: Any = None) -> list[list[str]]:
            if any(image.name == "k0" for image in visuals):
                raise BadSample("k0", "truncated image")
            if any("in the" in text for text in texts):
                raise TextTooLong("too long")
            return super().fill_text(visuals, texts, choices)

    records = Records(None, {})
    pets = Captions("a dog here", "a dog in the snow", "a cat here", "a bird here")
    run(Picky(), pets, Settings(), records)
    status = {key: record.status for key, record in records.done.items()}
    assert status["k0#content"] == "truncated image"
    assert status["k1#content"] == "skipped: the caption does not fit"
    asked, _ = questions([pets[i] for i in range(4)], 100, 0)
    beside_bad = [question.key for question in asked if question.other == 0 and question.sample != 1]
    assert beside_bad and all(status[key] == "skipped: the other picture: truncated image" for key in beside_bad)
    with pytest.raises(DataError, match="no caption has a word to hide"):
        run(Blind(), Captions("a dog", "a dog"), Settings(), Records(None, {}))
    with pytest.raises(ConfigError, match="vocabulary 1 must be 0, for any word, or 2 or more"):
        Settings(vocabulary=1)


def test_an_interrupted_evaluation_goes_on(tmp_path: Any) -> None:
    whole = run(Reader(), SCENES, Settings(), Records(None, {})).metrics

    class Impatient(Reader):
        def fill_text(self, visuals: Any, texts: Any, choices: Any = None) -> list[list[str]]:
            if len(self.asked) > 60:
                raise KeyboardInterrupt
            return super().fill_text(visuals, texts, choices)

    with pytest.raises(KeyboardInterrupt):
        run(Impatient(), SCENES, Settings(), Records(tmp_path, {}))
    again = Reader()
    assert run(again, SCENES, Settings(), Records(tmp_path, {})).metrics == whole
    assert 0 < len(again.asked) < 2 * whole["colour"].n + 2 * whole["shape"].n


def test_several_words_of_a_picture_count_as_one() -> None:
    samples = [SCENES[index] for index in range(20)]
    once, _ = questions(samples, 100, seed=0)
    often, _ = questions(samples, 100, seed=0, each=3)
    assert [one for one in often if one.key.count("#") == 1] == once
    assert len(often) > 2 * len(once) and len({one.key for one in often}) == len(often)
    assert len({(one.picture, one.group, one.text) for one in often}) == len(often)
    records = Records(None, {})
    found = run(Blind(), SCENES, Settings(each=3), records).metrics["colour"]
    by_picture: dict[str, list[float]] = {}
    for key, record in records.done.items():
        if "colour" in record.values:
            by_picture.setdefault(key.partition("#")[0], []).append(record.values["colour"])
    means = [sum(values) / len(values) for values in by_picture.values()]
    assert found.n == len(means) and found.value == pytest.approx(sum(means) / len(means))
    with pytest.raises(ConfigError, match="at least 1"):
        Settings(each=0)
