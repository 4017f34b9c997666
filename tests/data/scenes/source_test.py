"""Scenes as sources: pictures, pairs, documents and clips; the same seed gives the same bytes."""

import dataclasses
import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest

from claims import holds
from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.core.visual import Clip, Image
from diptych.data.open import open_source
from diptych.data.scenes.draw import SPLITS, SceneConfig, draw_scene
from diptych.data.scenes.motion import FRAMES
from diptych.data.scenes.source import KINDS, SceneClips, SceneDocuments, ScenePairs, Scenes
from diptych.data.scenes.world import Scene

ALL_KINDS = tuple(KINDS)


def names(scene: Scene) -> set[str]:
    return {f"{one.colour} {one.shape}" for one in scene.objects}


def images_of(sample: Sample) -> list[Image]:
    return [image for visual in sample.visuals for image in (visual.frames if isinstance(visual, Clip) else (visual,))]


def digest(sample: Sample) -> str:
    """Of everything in a sample, its pixels included."""
    pixels = [image.pixels_HWC for image in images_of(sample)]
    assert all(one is not None and one.dtype == np.uint8 for one in pixels)
    said = [sample.key, sample.texts, sample.turns, sample.boxes, dict(sample.meta)]
    said += [part for part in sample.parts if isinstance(part, str)]
    parts = [repr(said).encode(), *(one.tobytes() for one in pixels if one is not None)]
    return hashlib.blake2b(b"|".join(parts), digest_size=8).hexdigest()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_same_seed_gives_the_same_bytes_in_any_order_and_another_seed_others(kind: str) -> None:
    def source(seed: int, split: str = "train") -> list[str]:
        found = KINDS[kind](split, 8, SceneConfig(seed=seed))
        return [digest(found[index]) for index in range(8)]

    first = source(0)
    again = KINDS[kind]("train", 500, SceneConfig())
    assert [digest(again[index]) for index in reversed(range(8))] == first[::-1]
    assert len({*first, *source(1), *source(0, "test")}) == 24


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_keys_are_those_of_the_samples_and_tell_splits_and_kinds_apart(kind: str) -> None:
    seen = set()
    for split in SPLITS:
        source = KINDS[kind](split, 5)
        assert [source[index].key for index in range(5)] == list(source.keys())
        seen |= set(source.keys())
    assert len(seen) == 15
    others = {key for name in ALL_KINDS if name != kind for key in KINDS[name]("train", 5).keys()}
    assert not seen & others


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_picture_of_a_sample_has_a_name_of_its_own(kind: str) -> None:
    sample = KINDS[kind]("val", 2)[1]
    given = [image.name for image in images_of(sample)]
    assert len(set(given)) == len(given) and all(name.startswith(sample.key) for name in given)


def test_fingerprints_change_with_every_setting() -> None:
    prints = {Scenes("train", 10).fingerprint(), Scenes("train", 11).fingerprint(), Scenes("val", 10).fingerprint()}
    settings: dict[str, Any] = {"size": 32, "objects": 4, "min_objects": 2, "words": 0.3, "noise": 0.1, "seed": 1}
    prints |= {KINDS[kind]("train", 10).fingerprint() for kind in ALL_KINDS}
    for field, value in settings.items():
        prints.add(Scenes("train", 10, dataclasses.replace(SceneConfig(), **{field: value})).fingerprint())
    assert len(prints) == 3 + (len(ALL_KINDS) - 1) + 6
    assert Scenes("train", 10).fingerprint() == Scenes("train", 10, SceneConfig()).fingerprint()


def test_a_picture_carries_what_is_true_of_it() -> None:
    source = Scenes("test", 300, SceneConfig(objects=4))
    for index in range(300):
        sample, scene = source[index], draw_scene(SceneConfig(objects=4), "test", index)
        assert len(sample.texts) == 5 and all(holds(text, scene) for text in sample.texts)
        assert [box.label for box in sample.boxes] == [f"{o.size} {o.colour} {o.shape}" for o in scene.objects]
        assert set(sample.meta["present"]) == names(scene) and not names(scene) & set(sample.meta["absent"])
        assert [o["colour"] for o in sample.meta["objects"]] == [o.colour for o in scene.objects]
        assert (sample.meta["background"], sample.meta["word"]) == (scene.background, scene.word)
        assert sample.meta.get("class") == (scene.objects[0].shape if len(scene.objects) == 1 else None)
        question, answer = sample.turns
        assert (question.role, answer.role) == ("user", "assistant")
        assert (question.text, answer.text) in {(q["question"], q["answer"]) for q in sample.meta["questions"]}


def test_turns_are_of_every_kind_of_question() -> None:
    source = Scenes("train", 400)
    kinds: Counter[str] = Counter()
    for index in range(400):
        sample = source[index]
        kinds.update(q["kind"] for q in sample.meta["questions"] if q["question"] == sample.turns[0].text)
    assert len(kinds) == 7 and min(kinds.values()) > 5, kinds


def test_alt_text_replaces_its_share_of_captions() -> None:
    source = Scenes("train", 600, SceneConfig(alt_text=0.3))
    replaced = sum(len(source[index].texts) == 1 for index in range(600))
    assert abs(replaced / 600 - 0.3) < 0.06


def test_pairs_share_their_words_and_each_caption_is_true_of_its_picture_alone() -> None:
    for config in (SceneConfig(), SceneConfig(objects=5, min_objects=3)):
        for split in SPLITS:
            source = ScenePairs(split, 80, config)
            for index in range(80):
                kind, first, second = source.pair(index)
                one, other = source[index].texts if index < 20 else _captions(source, index)
                assert kind == ("swap_attribute", "swap_place")[index % 2]
                assert Counter(one.replace("an ", "a ").replace(",", "").split()) == Counter(
                    other.replace("an ", "a ").replace(",", "").split()
                )
                assert holds(one, first) and holds(other, second), (one, other)
                assert not holds(one, second) and not holds(other, first), (one, other)
                assert (first.background, first.word) == (second.background, second.word)
                if kind == "swap_place":
                    assert names(first) == names(second)


def _captions(source: ScenePairs, index: int) -> tuple[str, str]:
    """The captions without the cost of the pictures."""
    from diptych.data.scenes.source import _pair_caption

    kind, first, second = source.pair(index)
    return _pair_caption(kind, first, first), _pair_caption(kind, second, first)


def test_a_pair_is_two_pictures_of_which_the_first_is_the_first_scene() -> None:
    source = ScenePairs("test", 6, SceneConfig(noise=0))
    for index in range(6):
        sample = source[index]
        assert len(sample.visuals) == len(sample.texts) == 2 and sample.meta["kind"] == source.pair(index)[0]
        first, second = (image.pixels_HWC for image in images_of(sample))
        assert first is not None and second is not None and (first != second).any()


def test_no_pair_shows_a_combination_of_another_split() -> None:
    shown = {}
    for split in SPLITS:
        source = ScenePairs(split, 250)
        shown[split] = {frozenset(names(s)) for index in range(250) for s in source.pair(index)[1:]}
    assert not shown["train"] & shown["test"] and not shown["train"] & shown["val"] and not shown["val"] & shown["test"]


def test_documents_tell_the_truth_about_the_picture_after_each_sentence() -> None:
    source = SceneDocuments("train", 120, SceneConfig(noise=0))
    lengths: Counter[int] = Counter()
    for index in range(120):
        sample = source[index]
        parts = sample.parts
        assert parts[0] == "A short album." and tuple(images_of(sample)) == tuple(
            p for p in parts if isinstance(p, Image)
        )
        pages = (len(parts) - 1) // 2
        lengths[pages] += 1
        for page in range(pages):
            text, image = parts[1 + 2 * page : 3 + 2 * page]
            scene = draw_scene(source.config, "train", index * 4 + page)
            assert isinstance(text, str) and isinstance(image, Image)
            head = f"Picture {page + 1} shows "
            assert text.startswith(head) and text.endswith(".")
            assert holds(text[len(head) : -1], scene), text
            assert image.pixels_HWC is not None
            np.testing.assert_array_equal(
                image.pixels_HWC, Scenes("train", 10**6, source.config)[index * 4 + page].image.pixels_HWC
            )
    assert set(lengths) == {2, 3, 4} and min(lengths.values()) > 20


STEPS = {"to the left": (0, -1), "to the right": (0, 1), "up": (-1, 0), "down": (1, 0)}


def test_in_a_clip_one_object_moves_as_the_caption_says() -> None:
    source = SceneClips("train", 300, SceneConfig(objects=4))
    directions: Counter[str] = Counter()
    for index in range(300):
        direction, frames = source.clip(index)
        directions[direction] += 1
        mover = frames[0].objects[0]
        others = {frame.objects[1:] for frame in frames}
        assert len(frames) == FRAMES == 6 and len(others) == 1
        assert sum(one.name == mover.name for one in frames[0].objects) == 1  # the caption says which one
        dy, dx = STEPS[direction]
        ways = [(frame.objects[0].y - mover.y, frame.objects[0].x - mover.x) for frame in frames]
        steps = [(y * dy, x * dx) for y, x in ways]
        assert all(y == 0 or dy for y, _ in ways) and all(x == 0 or dx for _, x in ways)
        along = [y + x for y, x in steps]
        assert along == sorted(along) and len(set(along)) == 6
        assert along[-1] > 0.6 * 64  # across the picture
        for frame in frames:
            one = frame.objects[0]
            assert one.radius <= min(one.y, one.x) and max(one.y, one.x) < 64 - one.radius
    assert set(directions) == set(STEPS) and min(directions.values()) > 40


def test_a_clip_has_times_frames_and_a_true_caption() -> None:
    source = SceneClips("val", 10, SceneConfig(noise=0, words=0))
    for index in range(10):
        sample = source[index]
        direction, frames = source.clip(index)
        clip = sample.visuals[0]
        assert isinstance(clip, Clip) and list(clip.times) == [frame / 4 for frame in range(6)]
        article = "an" if sample.meta["object"][0] == "o" else "a"
        assert sample.texts == (f"{article} {sample.meta['object']} moves {direction}",)
        assert sample.meta == {"direction": direction, "object": frames[0].objects[0].name}
        first, last = clip.frames[0].pixels_HWC, clip.frames[-1].pixels_HWC
        assert first is not None and last is not None and (first != last).any()


def test_no_clip_repeats_a_combination_of_another_split() -> None:
    for config in (SceneConfig(objects=1), SceneConfig(min_objects=2)):
        shown: dict[str, set[Any]] = {}
        for split in SPLITS:
            source = SceneClips(split, 500, config)
            shown[split] = set()
            for index in range(500):
                direction, frames = source.clip(index)
                one = frames[0].objects[0]
                path = (one.full_name, direction, (one.x if direction in ("up", "down") else one.y) * 3 // 64)
                shown[split].add(path if config.objects == 1 else frozenset(names(frames[0])))
        assert not shown["train"] & shown["test"] and not shown["train"] & shown["val"]
        assert not shown["val"] & shown["test"]


def test_the_default_counts() -> None:
    assert [len(open_source("scenes", split)) for split in SPLITS] == [20_000, 1_000, 1_000]
    assert len(open_source("scenes?count=7&kind=pairs", "val")) == 7
    with pytest.raises(IndexError):
        open_source("scenes?count=7", "val")[7]


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("scenes?count=many", "scenes: count must be a number, not 'many'"),
        ("scenes?size=6.5", "scenes: size must be a number, not '6.5'"),
        ("scenes?count=-3", "scenes: count -3 must be at least 1"),
        ("scenes?noise=nan", r"noise nan must be in \[0, 1\]"),
        ("scenes?kind=pairs&objects=1", "pairs need two objects"),
        ("scenes?objects=0", "between 1 and 8 objects fit"),
    ],
)
def test_options_that_cannot_be(reference: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        open_source(reference, "test")[0]
