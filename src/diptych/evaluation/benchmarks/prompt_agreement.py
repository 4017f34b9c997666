"""Text to image on scenes: do pictures show what their prompts say? Read by the scenes' own recogniser.

A picture is made of a caption of every scene, with a seed of its own. Objects, colours (of the right objects),
relations and the number of objects are counted; chance is how far the pictures of other prompts agree, so a model that
does not read its prompt gets that. `..._true_picture` is what the recogniser reads out of the scenes' own pictures: the
most that there is to get. `nothing` is the share of pictures in which it finds no object.

A judge, any other model that scores pictures with texts, may give a second opinion: which of ten prompts is it?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diptych.capabilities.generator import OWN_WAY
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sampling import ImageSampling
from diptych.core.source import Source
from diptych.data.pixels.thumbnail import png
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.generation.generated_pictures import painted
from diptych.evaluation.generation.judge import judged, load_judge
from diptych.evaluation.generation.scene_agreement import KINDS, agreement, by_chance, objects_seen, some_others
from diptych.evaluation.generation.scene_prompts import Caption, ScenePrompt, objects_of, scene_prompts
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("generate_image",)
DATA = "scenes?min_objects=2&count=200"


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        caption: which caption of a scene is the prompt: "detailed", "related", "listed" or "placed".
        sampling: how pictures are drawn.
        judge: a model with `score`, as `diptych.load` takes it; "" for none.
        among: how many prompts the judge chooses from.
        examples: how many pictures the report shows.
    """

    caption: Caption = "detailed"
    sampling: ImageSampling = OWN_WAY
    judge: str = ""
    among: int = 10
    examples: int = 8

    def __post_init__(self) -> None:
        if self.among < 2:
            raise ConfigError(f"prompt_agreement.among {self.among}: a judge chooses from two prompts or more")


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Makes and reads a picture of every prompt.

    Raises:
        DataError: fewer than two scenes.
    """
    prompts = scene_prompts(records.samples(source), settings.caption, records)
    if len(prompts) < 2:
        raise DataError(f"{source.name} has {len(prompts)} prompt(s) of scenes: prompt_agreement needs two or more")
    _paint(model, prompts, settings, records)
    done = [prompt for prompt in prompts if prompt.key in records.done and records.done[prompt.key].status == "ok"]
    metrics = _metrics(done, records)
    if settings.judge:
        chance = 1 / min(settings.among, len(prompts))
        for name in ("judge", "judge_expected"):
            metrics[name] = mean_metric(records.values(name)[0], None, chance, records.seed)
    rows = _examples(model, done[: settings.examples], settings, records)
    return Outcome(metrics, {"pictures": rows, "pictures_title": "Made of prompts"})


def _paint(model: Predictor, prompts: Sequence[ScenePrompt], settings: Settings, records: Records) -> None:
    """A record for every prompt that has none yet."""
    judge = load_judge(settings.judge)
    around = Derangement([prompt.key for prompt in prompts], records.seed)
    place = {prompt.key: index for index, prompt in enumerate(prompts)}
    new = [prompt for prompt in prompts if prompt.key not in records.done]
    for prompt, image in painted(model, new, settings.sampling, records):
        seen = objects_seen(image)
        values = agreement(prompt, seen) | {"nothing": float(not seen)}
        true = agreement(prompt, objects_seen(prompt.sample.image))
        values |= {f"{kind}_true_picture": value for kind, value in true.items()}
        if judge is not None:
            others = some_others(around, place[prompt.key], settings.among - 1)
            values |= judged(judge, image, prompt.text, [prompts[other].text for other in others])
        output = [asdict(one) for one in seen]
        records.add(SampleRecord(prompt.key, prompt=prompt.text, output=output, values=values))


def _metrics(prompts: Sequence[ScenePrompt], records: Records) -> dict[str, Metric]:
    """Every kind with its chance, then what the recogniser makes of true pictures."""
    seen = [objects_of(records.done[prompt.key].output) for prompt in prompts]
    chance = by_chance(prompts, seen, records.seed)
    kinds = [kind for kind in KINDS if records.values(kind)[0]]
    metrics = {kind: mean_metric(records.values(kind)[0], None, chance.get(kind), records.seed) for kind in kinds}
    for name in ("nothing", *(f"{kind}_true_picture" for kind in kinds)):
        metrics[name] = mean_metric(records.values(name)[0], None, None, records.seed)
    return metrics


def _examples(
    model: Predictor, prompts: Sequence[ScenePrompt], settings: Settings, records: Records
) -> list[dict[str, Any]]:
    """For the report: pictures, made again from the same seeds, with what was read, beside the true ones."""
    rows = []
    for prompt, image in painted(model, prompts, settings.sampling, records):
        read = ", ".join(one.name for one in objects_of(records.done[prompt.key].output)) or "nothing"
        pictures = [
            {"title": f"made; read as {read}", "png": png(image)},
            {"title": f"true: {prompt.text}", "png": png(prompt.sample.image, prompt.key)},
        ]
        rows.append({"key": prompt.key, "caption": prompt.text, "images": pictures})
    return rows


def tiny_data(folder: Path) -> Source:
    """Six scenes."""
    return Scenes("test", 6, SceneConfig(size=32, min_objects=2))
