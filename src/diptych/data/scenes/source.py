"""The scenes as sources: pictures, pairs, documents, clips. All of it from a seed, nothing on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from diptych.core.config import from_plain
from diptych.core.errors import ConfigError, unknown_name
from diptych.core.sample import Json, Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.core.visual import Clip, Image
from diptych.data.scenes.captions import alt_text, captions, listed, with_article
from diptych.data.scenes.draw import SceneConfig, check_split, draw_scene, generator, in_split, random_scene, split_has
from diptych.data.scenes.motion import combination_of, moving
from diptych.data.scenes.negatives import absent, negatives, swap_colours, swap_places
from diptych.data.scenes.questions import questions
from diptych.data.scenes.render import box_of, render
from diptych.data.scenes.world import Scene, names, relations

_EDITION = 2
"""Goes up when the same seed gives other samples than before, so that nothing cached of them is used."""
COUNTS = {"train": 20_000, "val": 1_000, "test": 1_000}


class Scenes:
    """Pictures with several true captions, boxes, questions and hard negatives.

    `meta` holds: `class` (of a lone object: its shape), `questions`, `negatives`, `present`, `absent`, `background`,
    `word`, and `objects` with every attribute.
    """

    kind = "scene"

    def __init__(self, split: str = "train", count: int = 0, config: SceneConfig | None = None) -> None:
        check_split(split)
        if count < 0:
            raise ConfigError(f"scenes: count {count} must be at least 1")
        self.config = config or SceneConfig()
        self.split = split
        self.count = count or COUNTS[split]

    @property
    def name(self) -> str:
        return f"{self.kind}s ({self.split})"

    def __len__(self) -> int:
        return self.count

    def keys(self) -> Sequence[str]:
        return [self._key(index) for index in range(self.count)]

    def fingerprint(self) -> str:
        return f"{hash_to_int(_EDITION, self.kind, self.split, self.count, str(asdict(self.config))):016x}"

    def scene(self, index: int) -> Scene:
        """What is in the picture."""
        return draw_scene(self.config, self.split, index)

    def __getitem__(self, index: int) -> Sample:
        key, scene = self._key(index), self.scene(index)
        rng = generator(self.config, self.split, index, "words")
        texts = captions(scene, rng)
        if self.config.alt_text and rng.random() < self.config.alt_text:
            texts = (alt_text(scene, index, rng),)
        asked = questions(scene, rng)
        turn = asked[hash_to_int("turn", self.config.seed, self.split, index) % len(asked)]
        return Sample(
            key,
            (self._image(scene, index, "noise"),),
            texts,
            turns=(Turn("user", str(turn["question"])), Turn("assistant", str(turn["answer"]))),
            boxes=tuple(box_of(one) for one in scene.objects),
            meta=_facts(scene) | {"questions": asked, "negatives": negatives(scene, rng), "absent": absent(scene, rng)},
        )

    def _key(self, index: int) -> str:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return f"{self.kind}-{self.split}-{index:08d}"

    def _image(self, scene: Scene, index: int, purpose: str) -> Image:
        rng = generator(self.config, self.split, index, purpose)
        name = self._key(index) if purpose == "noise" else f"{self._key(index)}, {purpose}"
        return Image(pixels_HWC=render(scene, self.config.noise, rng), name=name)


class ScenePairs(Scenes):
    """Two pictures and two captions of the same words, each caption true of one picture only (as in Winoground).

    `meta["kind"]` is "swap_attribute" or "swap_place".
    """

    kind = "pair"

    def __init__(self, split: str = "train", count: int = 0, config: SceneConfig | None = None) -> None:
        super().__init__(split, count, config)
        if self.config.objects < 2:
            raise ConfigError("scenes: pairs need two objects to exchange something: give objects=2 or more")

    def __getitem__(self, index: int) -> Sample:
        kind, first, second = self.pair(index)
        images = (self._image(first, index, "first"), self._image(second, index, "second"))
        texts = tuple(_pair_caption(kind, scene, first) for scene in (first, second))
        return Sample(self._key(index), images, texts, meta={"kind": kind})

    def pair(self, index: int) -> tuple[str, Scene, Scene]:
        """The kind and the two scenes; both combinations are of the split."""
        rng = generator(self.config, self.split, index, "pair")
        kind = ("swap_attribute", "swap_place")[index % 2]
        change = swap_colours if kind == "swap_attribute" else swap_places
        while True:
            scene = random_scene(self.config, rng)
            if len(scene.objects) < 2 or not in_split(scene, self.split):
                continue
            other = change(scene)
            if other is None or not in_split(other, self.split):
                continue
            if _pair_caption(kind, scene, scene) and _distinguishes(kind, scene, other):
                return kind, scene, other


class SceneDocuments(Scenes):
    """Interleaved documents: a sentence, a picture, a sentence about it, another picture ..."""

    kind = "document"

    def __getitem__(self, index: int) -> Sample:
        rng = generator(self.config, self.split, index, "document")
        parts: list[str | Image | Clip] = ["A short album."]
        for page in range(int(rng.integers(2, 5))):
            scene = draw_scene(self.config, self.split, index * 4 + page)
            said = captions(scene, rng)[int(rng.integers(5))]
            image = self._image(scene, index, f"page {page}")
            parts += [f"Picture {page + 1} shows {said}.", image]
        visuals = tuple(part for part in parts if isinstance(part, Image))
        return Sample(self._key(index), visuals, parts=tuple(parts))


class SceneClips(Scenes):
    """Short clips in which one object moves in one direction."""

    kind = "clip"

    def __getitem__(self, index: int) -> Sample:
        direction, frames = self.clip(index)
        images = tuple(self._image(frame, index, f"frame {i}") for i, frame in enumerate(frames))
        mover = frames[0].objects[0]
        text = f"{with_article(mover.name)} moves {direction}"
        clip = Clip(images, tuple(i / 4 for i in range(len(images))))
        return Sample(self._key(index), (clip,), (text,), meta={"direction": direction, "object": mover.name})

    def clip(self, index: int) -> tuple[str, list[Scene]]:
        """The direction and the frames; the object that moves is their first, and no other has its name."""
        rng = generator(self.config, self.split, index, "motion")
        while True:
            scene = random_scene(self.config, rng)
            direction, frames = moving(scene, rng)
            alone = sum(one.name == scene.objects[0].name for one in scene.objects) == 1
            if alone and split_has(self.split, combination_of(scene, direction)):
                return direction, frames


KINDS = {"images": Scenes, "pairs": ScenePairs, "documents": SceneDocuments, "clips": SceneClips}


def from_options(given: Mapping[str, str], split: str) -> Source:
    """The source of `scenes?objects=3&size=64&count=1000&kind=pairs`.

    Raises:
        ConfigError: an option or kind nobody knows (the nearest is named), or a value that is no number.
    """
    options = dict(given)
    kind = options.pop("kind", "images")
    if kind not in KINDS:
        raise unknown_name("kind of scenes", kind, KINDS)
    count = _number("count", options.pop("count", "0"), int)
    types = {field.name: type(field.default) for field in fields(SceneConfig)}
    for name in options:
        if name not in types:
            raise unknown_name("option of the scenes", name, (*types, "count", "kind"))
    values = {name: _number(name, value, types[name]) for name, value in options.items()}
    return KINDS[kind](split, int(count), from_plain(SceneConfig, values))


def _number(name: str, value: str, kind: type) -> int | float:
    try:
        return float(value) if kind is float else int(value)
    except ValueError as error:
        raise ConfigError(f"scenes: {name} must be a number, not '{value}'") from error


def _facts(scene: Scene) -> dict[str, Json]:
    facts: dict[str, Json] = {
        "objects": [asdict(one) for one in scene.objects],
        "present": sorted(names(scene)),
        "background": scene.background,
        "word": scene.word,
    }
    if len(scene.objects) == 1:
        facts["class"] = scene.objects[0].shape
    return facts


def _pair_caption(kind: str, scene: Scene, first: Scene) -> str:
    """What is said of one side of a pair, in the words of both."""
    if kind == "swap_attribute":
        return listed([with_article(one.name) for one in scene.objects])
    a, b = scene.objects[:2]
    true = {relation for one, relation, two in relations(first) if (one, two) == first.objects[:2]}
    if not true:
        return ""
    relation = sorted(true)[0]
    pair = (a, b) if scene is first else (b, a)
    return f"{with_article(pair[0].name)} {relation} {with_article(pair[1].name)}"


def _distinguishes(kind: str, scene: Scene, other: Scene) -> bool:
    """Whether each caption is false of the other picture."""
    if kind == "swap_attribute":
        return not names(other) <= names(scene) and not names(scene) <= names(other)
    said, also = _pair_caption(kind, scene, scene), _pair_caption(kind, other, scene)
    return also not in _all_relations(scene) and said not in _all_relations(other)


def _all_relations(scene: Scene) -> set[str]:
    return {f"{with_article(a.name)} {relation} {with_article(b.name)}" for a, relation, b in relations(scene)}
