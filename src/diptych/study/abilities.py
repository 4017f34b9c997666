"""What a study measures: abilities, each by a benchmark and some of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from diptych.data.scenes.draw import SceneConfig


@dataclass(frozen=True)
class Ability:
    """One group of rows of the table.

    Attributes:
        metrics: metric -> what the row is called.
        controls: metric -> the metric of the blind control: the same answers with the picture withheld or swapped.
            Where none stands here, chance is the control.
        settings: of the benchmark.
        option: added to the data's reference, where these are scenes.
        crowded: whether it asks for scenes of two objects at least, where the data have such.
        scenes: whether nothing else than scenes will do.
        pairs: whether nothing else than scenes of several objects will do.
    """

    title: str
    benchmark: str
    metrics: Mapping[str, str]
    controls: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    option: str = ""
    crowded: bool = False
    scenes: bool = False
    pairs: bool = False

    def data(self, reference: str) -> str:
        """What the benchmark reads in a study of this data."""
        if not is_scenes(reference):
            return reference
        options = [self.option, "min_objects=2" if self.crowded and most_objects(reference) > 1 else ""]
        added = "&".join(option for option in options if option)
        return f"{reference}{'&' if '?' in reference else '?'}{added}" if added else reference

    def missing(self, reference: str) -> str:
        """Why data like these cannot be used for it; "" where they can."""
        if (self.scenes or self.pairs) and not is_scenes(reference):
            return "only on the built-in scenes"
        return "only on scenes of several objects" if self.pairs and most_objects(reference) < 2 else ""


def is_scenes(reference: str) -> bool:
    """Whether a reference names the built-in scenes."""
    return reference.partition("?")[0] == "scenes"


def most_objects(reference: str) -> int:
    """Of a scene."""
    return int(dict(parse_qsl(reference.partition("?")[2])).get("objects", SceneConfig.objects))


_KINDS = {
    "swap_attribute_expected": "attributes swapped",
    "swap_relation_expected": "relation swapped",
    "swap_object_expected": "objects swapped",
    "replace_attribute_expected": "attribute replaced",
    "replace_object_expected": "object replaced",
    "order_expected": "words shuffled",
}

ABILITIES = (
    Ability(
        "Retrieval",
        "retrieval",
        {"text_to_image_r1_expected": "text to image, R@1", "image_to_text_r1_expected": "image to text, R@1"},
        settings={"pool": 100, "captions": 1},
    ),
    Ability("Zero-shot classification", "zero_shot_classification", {"top1_expected": "top-1"}),
    Ability("Composition", "scene_negatives", _KINDS, crowded=True, scenes=True),
    Ability(
        "Composition, two pictures", "scene_pairs", {"group_expected": "group score"}, option="kind=pairs", pairs=True
    ),
    Ability("Matching", "matching", {"accuracy_expected": "own caption above another's"}),
    Ability("Captioning", "captioning", {"cider": "CIDEr", "pair_precision": "coloured shapes that are there"}),
    Ability("Answering", "vqa", {"accuracy": "questions answered"}, {"accuracy": "accuracy_other_picture"}),
    Ability("Grounding", "grounding", {"accuracy": "boxes at IoU 0.5"}, {"accuracy": "accuracy_swapped"}),
    Ability(
        "Masked words",
        "masked_words",
        {"colour": "colours", "shape": "shapes", "content": "words"},
        {"colour": "colour_other_picture", "shape": "shape_other_picture", "content": "content_other_picture"},
    ),
    Ability("Masked patches", "masked_patches", {"variance_explained": "variance explained"}),
    Ability(
        "Text to image",
        "prompt_agreement",
        {"all": "all of the prompt", "object": "objects", "colour": "colours"},
        scenes=True,
    ),
)
