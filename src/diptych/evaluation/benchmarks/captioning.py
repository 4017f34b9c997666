"""What does the model say of each picture, and is it what people say: BLEU, ROUGE-L and CIDEr-D.

The prompt is the picture; the references are the sample's captions. The numbers are those of the COCO server
(docs/captioning.md). The chance of each is what the captions get on other pictures: what a model knows of how captions
go, without looking, is in both. On scenes also whether the coloured shapes that a caption names are there.

Beside them stand captions without a captioner: one sentence for every picture, and with `neighbours` what is said of
training pictures that look alike to the model. With `judge` another model says how well captions fit, by its encodings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import DataError, MissingVerb, TextTooLong, unknown_name
from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.captions.baselines import typical_caption
from diptych.evaluation.captions.clip_score import clip_scores, judge_from
from diptych.evaluation.captions.neighbours import neighbour_captions
from diptych.evaluation.captions.results import Captioned, baseline_metrics, gallery, overlap_metrics, scene_metrics
from diptych.evaluation.captions.scene_truth import is_scene, truth_of
from diptych.evaluation.encoding import batched
from diptych.evaluation.metrics.caption_java import meteor, spice
from diptych.evaluation.metrics.captioning import CaptionScorer
from diptych.evaluation.progress import shown
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("generate_text",)
DATA = "scenes?min_objects=2"

_BATCH = 32
_JAVA = ("meteor", "spice")


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        prompt: words behind the picture, for models that want to be asked; "" for the picture alone.
        max_tokens, beams, temperature: how the caption is drawn (core/sampling.py).
        baseline: whether the constant caption, and the neighbours' where these are named, are scored too.
        neighbours: training pictures whose captions are baselines: a reference as for `--data`, of which the split
            "train" is opened. The model must encode pictures.
        judge: a model whose encodings say how well captions fit: a run folder, a Hugging Face folder; "" for none.
        java: of "meteor" and "spice", which are programs in Java, those to run.
    """

    prompt: str = ""
    max_tokens: int = 64
    beams: int = 1
    temperature: float = 0.0
    baseline: bool = True
    neighbours: str = ""
    judge: str = ""
    java: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.sampling()
        for name in self.java:
            if name not in _JAVA:
                raise unknown_name("metric in Java", name, _JAVA)

    def sampling(self) -> TextSampling:
        """How captions are drawn."""
        return TextSampling(self.max_tokens, self.temperature, beams=self.beams)


@dataclass(frozen=True)
class _Session:
    """What one evaluation holds while it asks."""

    model: Any
    judge: Predictor | None
    samples: list[Sample]
    scorer: CaptionScorer
    settings: Settings
    records: Records


def run(model: Any, source: Source, settings: Settings, records: Records) -> Outcome:
    """Has every picture captioned.

    Raises:
        DataError: no picture has captions, or not one could be captioned.
        MissingVerb: neighbours are asked for, and the model does not encode pictures; or the judge does not.
    """
    if settings.neighbours and Verb.ENCODE_IMAGE not in model.verbs:
        raise MissingVerb(model.name, Verb.ENCODE_IMAGE, model.verbs)
    judge = judge_from(settings.judge, model.device) if settings.judge else None
    samples = [sample for sample in records.samples(source) if records.has_caption(sample)]
    if not samples:
        raise DataError(f"{source.name} has no picture with a caption to compare with")
    session = _Session(model, judge, samples, CaptionScorer([_said(one) for one in samples]), settings, records)
    left = [index for index, sample in enumerate(samples) if sample.key not in records.done]
    batches = list(batched(left, _BATCH))
    for some in shown(batches, "captions", len(batches), records):
        _ask(session, some)
    return _outcome(session, _captioned(session))


def _said(sample: Sample) -> list[str]:
    return [text for text in sample.texts if text.strip()]


def _ask(session: _Session, positions: Sequence[int]) -> None:
    """A caption for each; one by one only where one of them cannot be had."""
    try:
        found = _records(session, positions)
    except (BadSample, TextTooLong) as error:
        if len(positions) == 1:
            too_long = isinstance(error, TextTooLong)
            status = "skipped: the prompt does not fit" if too_long else error.reason  # type: ignore[union-attr]
            session.records.add(SampleRecord(session.samples[positions[0]].key, status=status))
            return
        for position in positions:
            _ask(session, [position])
        return
    session.records.add(*found)


def _records(session: _Session, positions: Sequence[int]) -> list[SampleRecord]:
    """Captions with what each comes to by itself."""
    settings, samples = session.settings, [session.samples[position] for position in positions]
    behind = [settings.prompt] if settings.prompt else []
    seeds = [hash_to_int("caption", session.records.seed, sample.key) for sample in samples]
    captions = session.model.generate_text([[one.image, *behind] for one in samples], settings.sampling(), seeds)
    values = session.scorer.values(captions, positions)
    rows: list[dict[str, float]] = [
        {"rouge_l": float(rouge_l), "cider": float(cider)}
        for rouge_l, cider in zip(values.rouge_l_R, values.cider_R, strict=True)
    ]
    for row, caption, sample in zip(rows, captions, samples, strict=True):
        row |= truth_of(caption, sample.meta) if is_scene(sample.meta) else {}
    if session.judge is not None:
        images, said = [one.image for one in samples], [_said(one) for one in samples]
        for row, clip, both in zip(rows, *clip_scores(session.judge, images, captions, said), strict=True):
            row |= {"clip_score": float(clip), "ref_clip_score": float(both)}
    return [
        SampleRecord(sample.key, prompt=settings.prompt, output=caption, values=row)
        for sample, caption, row in zip(samples, captions, rows, strict=True)
    ]


def _captioned(session: _Session) -> Captioned:
    """Everything that has a caption by now, of this session or of one before.

    Raises:
        DataError: nothing has.
    """
    done = session.records.done
    positions = [index for index, sample in enumerate(session.samples) if done[sample.key].status == "ok"]
    if not positions:
        reasons = Counter(record.status for record in done.values())
        told = ", ".join(f"{count} with {reason}" for reason, count in reasons.items())
        raise DataError(f"{session.model.name} captioned not a single picture: {told}")
    samples = [session.samples[position] for position in positions]
    captions = [str(done[sample.key].output) for sample in samples]
    return Captioned(session.scorer, positions, samples, captions, session.records.seed)


def _outcome(session: _Session, done: Captioned) -> Outcome:
    settings = session.settings
    metrics = overlap_metrics(done) | scene_metrics(done) | _judged(session, done) | _java_metrics(settings, done)
    extras: dict[str, Any] = {"gallery": gallery(done)}
    if settings.baseline:
        constant = typical_caption([_said(sample) for sample in session.samples])
        extras["constant_caption"] = constant
        metrics |= baseline_metrics(done, "constant_caption", [constant] * len(done.samples))
        if settings.neighbours:
            for name, captions in neighbour_captions(session.model, settings.neighbours, done.samples).items():
                metrics |= baseline_metrics(done, name, captions)
    verbs = (Verb.GENERATE_TEXT, *((Verb.ENCODE_IMAGE,) if settings.baseline and settings.neighbours else ()))
    return Outcome(metrics, extras, verbs)


def _judged(session: _Session, done: Captioned) -> dict[str, Metric]:
    """The judge's numbers, with those of other pictures' captions as chance, and those of the first reference."""
    if session.judge is None:
        return {}
    images, said = [one.image for one in done.samples], [_said(one) for one in done.samples]
    elsewhere = done.elsewhere()
    chance = clip_scores(session.judge, images, elsewhere, said) if elsewhere else (None, None)
    metrics = {}
    for name, by_chance in zip(("clip_score", "ref_clip_score"), chance, strict=True):
        values, _ = session.records.values(name)
        level = None if by_chance is None else float(by_chance.mean())
        metrics[name] = replace(mean_metric(values, None, level, done.seed), unit="number")
    of_people, _ = clip_scores(session.judge, images, [texts[0] for texts in said], said)
    metrics["clip_score_first_reference"] = replace(mean_metric(of_people.tolist(), seed=done.seed), unit="number")
    return metrics


def _java_metrics(settings: Settings, done: Captioned) -> dict[str, Metric]:
    said = [_said(sample) for sample in done.samples]
    metrics = {}
    if "meteor" in settings.java:
        metrics["meteor"] = Metric(meteor(done.captions, said)[0], n=len(said))
    if "spice" in settings.java:
        metrics["spice"] = mean_metric(spice(done.captions, said).tolist(), seed=done.seed)
    return metrics


def tiny_data(folder: Path) -> Source:
    """Twelve scenes."""
    return Scenes("test", 12, SceneConfig(size=32, min_objects=2))
