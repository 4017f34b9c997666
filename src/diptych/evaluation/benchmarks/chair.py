"""CHAIR: which objects does a caption name that are not in the picture?

Rohrbach et al. 2018, arXiv 1809.02156. `chair_i` is the share of the mentions of objects that are of absent ones,
`chair_s` the share of captions with such a mention; lower is better. A model that says nothing has none, so `recall`,
the share of the objects that are named, stands beside them. `--data` is a folder with COCO's instances*.json,
captions*.json and CHAIR's synonyms.txt, or scenes, whose coloured shapes are the objects. `..._other_picture` is of the
same captions and other pictures' objects: what naming the usual objects gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diptych.core.errors import ConfigError, DataError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sampling import TextSampling
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.pixels.thumbnail import png
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.scenes.world import COLOURS, SHAPES
from diptych.evaluation.answers.yes_no import ratio_metric
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.captions.chair_files import Annotated, holds_chair, read_chair
from diptych.evaluation.captions.described_picture import Described
from diptych.evaluation.captions.scene_truth import is_scene
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.encoding import batched
from diptych.evaluation.files import AnnotationFolder
from diptych.evaluation.metrics.object_mentions import Vocabulary
from diptych.evaluation.progress import shown
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("generate_text",)
DATA = "scenes?min_objects=2&count=200"
holds_files = holds_chair

_BATCH = 32
_EXAMPLES = 4


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        prompt: words behind the picture; longer descriptions name more, and hallucinate more. "" for the picture alone.
        max_tokens: of a caption.
        images: the folder of COCO's pictures; "" for `images` beside the files.
        synonyms: the file of synonyms; "" for synonyms.txt beside the files.
    """

    prompt: str = ""
    max_tokens: int = 64
    images: str = ""
    synonyms: str = ""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"chair.max_tokens {self.max_tokens} must be 1 or more")


@dataclass(frozen=True)
class _Counts:
    """What one caption names, against the objects of a picture."""

    mentions: int
    absent: int
    named: int
    objects: int


def run(model: Any, source: Source, settings: Settings, records: Records) -> Outcome:
    """Has every picture described.

    Raises:
        DataError: no pictures with objects, files that are not COCO's, or not one picture could be described.
    """
    if isinstance(source, AnnotationFolder):
        data = read_chair(source.folder, settings.images, settings.synonyms)
        chosen = records.within_limit([one.key for one in data.pictures])
        data = replace(data, pictures=[data.pictures[index] for index in chosen])
    else:
        data = _scenes(source, records)
    left = [one for one in data.pictures if one.key not in records.done]
    some = list(batched(left, _BATCH))
    for pictures in shown(some, "descriptions", len(some), records):
        _describe(model, pictures, data.vocabulary, settings, records)
    done = [one for one in data.pictures if records.done[one.key].status == "ok"]
    if not done:
        raise DataError(f"not one of {len(data.pictures)} pictures could be described: are they in the folder that "
                        f"chair.images names?")  # fmt: skip
    extras = {"pictures": _examples(done, records), "pictures_title": "Described", "notes": data.notes}
    return Outcome(_metrics(done, records), extras)


def _scenes(source: Source, records: Records) -> Annotated:
    """Scenes with their coloured shapes; sizes and places are not looked at."""
    samples = [sample for sample in records.samples(source) if is_scene(sample.meta)]
    if not samples:
        raise DataError(f"{source.name} has no scenes: chair reads scenes, or a folder with COCO's instances*.json")
    found = [Described(one.key, partial(_same, one.image), frozenset(one.meta["present"])) for one in samples]
    return Annotated(found, Vocabulary({f"{colour} {shape}": [] for colour in COLOURS for shape in SHAPES}), [])


def _same(image: Image) -> Image:
    return image


def _describe(
    model: Any, pictures: Sequence[Described], vocabulary: Vocabulary, settings: Settings, records: Records
) -> None:
    """A record for each; one by one only where one of them cannot be described."""
    behind = [settings.prompt] if settings.prompt else []
    try:
        seen = [(one, one.image()) for one in pictures]
        records.add(*(SampleRecord(one.key, status="skipped: no picture") for one, image in seen if image is None))
        there = [(one, image) for one, image in seen if image is not None]
        prompts = [[image, *behind] for _, image in there]
        captions = model.generate_text(prompts, TextSampling(settings.max_tokens)) if there else []
    except (BadSample, TextTooLong) as error:
        if len(pictures) > 1:
            for one in pictures:
                _describe(model, [one], vocabulary, settings, records)
            return
        reason = "skipped: the prompt does not fit" if isinstance(error, TextTooLong) else error.reason
        records.add(SampleRecord(pictures[0].key, status=reason))
        return
    for (one, _), caption in zip(there, captions, strict=True):
        mentioned = vocabulary.mentions(caption)
        output = {"caption": caption, "mentions": mentioned, "objects": sorted(one.objects)}
        found = _counts(mentioned, one.objects)
        values = {"chair_s": float(found.absent > 0), "mentions": float(found.mentions)}
        records.add(SampleRecord(one.key, prompt=settings.prompt, output=output, values=values))


def _counts(mentions: Sequence[str], objects: frozenset[str]) -> _Counts:
    absent = sum(name not in objects for name in mentions)
    return _Counts(len(mentions), absent, len(objects & set(mentions)), len(objects))


def _metrics(done: Sequence[Described], records: Records) -> dict[str, Metric]:
    mentions = [records.done[one.key].output["mentions"] for one in done]
    own = [_counts(said, one.objects) for said, one in zip(mentions, done, strict=True)]
    metrics = _rates(own, records.seed)
    around = Derangement([one.key for one in done], records.seed)
    others = [around.of(index, lambda _: True) for index in range(len(done))]
    elsewhere = [
        _counts(said, done[other].objects) for said, other in zip(mentions, others, strict=True) if other is not None
    ]
    if elsewhere:
        other_rates = _rates(elsewhere, records.seed)
        if "recall" in metrics and "recall" in other_rates:
            metrics["recall"] = replace(metrics["recall"], chance=other_rates.pop("recall").value)
        other_rates.pop("mentions_a_caption")
        metrics |= {f"{name}_other_picture": metric for name, metric in other_rates.items()}
    return metrics


def _rates(found: Sequence[_Counts], seed: int) -> dict[str, Metric]:
    """Without a mention there is no share of them."""
    units = [str(place) for place in range(len(found))]
    metrics: dict[str, Metric] = {}
    if any(one.mentions for one in found):
        absent, mentions = [float(one.absent) for one in found], [float(one.mentions) for one in found]
        metrics["chair_i"] = ratio_metric(absent, mentions, units, None, seed)
    metrics["chair_s"] = mean_metric([float(one.absent > 0) for one in found], None, None, seed)
    if any(one.objects for one in found):
        named, objects = [float(one.named) for one in found], [float(one.objects) for one in found]
        metrics["recall"] = ratio_metric(named, objects, units, None, seed)
    mentions = [float(one.mentions) for one in found]
    metrics["mentions_a_caption"] = replace(mean_metric(mentions, None, None, seed), unit="number")
    return metrics


def _examples(done: Sequence[Described], records: Records) -> list[dict[str, Any]]:
    """Captions that name what is not there, then some that do not."""
    wrong = [one for one in done if records.done[one.key].values["chair_s"]]
    right = [one for one in done if not records.done[one.key].values["chair_s"]]
    rows = []
    for one in [*wrong[:_EXAMPLES], *right[:_EXAMPLES]]:
        image, output = one.image(), records.done[one.key].output
        absent = sorted(set(output["mentions"]) - one.objects)
        title = f"{output['caption'] or 'nothing'}; not there: {', '.join(absent) or 'nothing'}"
        if image is not None:
            rows.append({"key": one.key, "images": [{"title": title, "png": png(image, one.key)}]})
    return rows


def tiny_data(folder: Path) -> Source:
    """Two scenes."""
    return Scenes("test", 2, SceneConfig(size=32, min_objects=2))
