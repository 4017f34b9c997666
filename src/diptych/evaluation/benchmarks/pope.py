"""POPE: is there a ... in the picture? Whether a model sees objects that are not there.

Li et al. 2023, arXiv 2305.10355. Half of the questions are about objects that are there, half about absent ones, chosen
in three ways of rising difficulty (evaluation/answers/object_probes.py). `--data` is a folder of the official files
(..._random.json, ..._popular.json, ..._adversarial.json, JSON lines) with the pictures in `images/`, or any data with
labelled boxes, of which the questions are made; scenes are the default. The reading of written answers is the official
one: an answer that does not say no says yes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.results import Metric, SampleRecord
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.scenes.captions import with_article
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.answers.object_probes import WAYS, Probes, objects_of, probes_of
from diptych.evaluation.answers.questions import Asking, Blind, Question, Reply, replies, verb_of
from diptych.evaluation.answers.results import BLIND_SUFFIX, answer_examples, means_with_control
from diptych.evaluation.answers.yes_no import CHOICES, NO, YES, Judgement, read_yes_no, yes_no_metrics
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.files import AnnotationFolder, check_entries, read_json_lines
from diptych.evaluation.picture_folder import PictureFolder

REQUIRES = ("answer|generate_text",)
SENTENCES = True
DATA = "scenes?count=200"

_FIELDS = ("question_id", "image", "text", "label")


@dataclass(frozen=True)
class Settings:
    """Choices that change the numbers.

    Attributes:
        prompt: how a question is put, with {} for it.
        question: what is asked of data with boxes, with {} for "a red circle".
        each: the most objects of such a picture that are asked for, and with them as many absent ones.
        blind: what stands in the picture's place in the control: "other", "grey", or "none" for no control.
        choose: whether a model that writes is to choose between "yes" and "no" all the same.
        images: the folder of the pictures of official files; "" for `images` beside them.
    """

    prompt: str = "{}"
    question: str = "is there {}?"
    each: int = 3
    blind: Blind = "other"
    choose: bool = False
    images: str = ""

    def __post_init__(self) -> None:
        if "{}" not in self.prompt or "{}" not in self.question:
            raise ConfigError("pope.prompt and pope.question need {}: where the question, or the object, goes")
        if self.each < 1:
            raise ConfigError(f"pope.each {self.each}: a picture is asked for one object or more")

    def asking(self) -> Asking:
        """How the model is asked."""
        return Asking(self.prompt, self.blind, self.choose)


Asked = tuple[list[Question], dict[str, tuple[str, ...]]]
"""Questions, and for the key of each the ways of choosing that it counts for."""


def holds_files(folder: Path) -> bool:
    """Whether a file of the folder is named for one of the three ways."""
    return bool(_files(folder))


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """Asks for objects.

    Raises:
        DataError: no questions, a file that is not POPE's, or none of its pictures.
    """
    official = isinstance(source, AnnotationFolder)
    questions, ways = _official(source, settings, records) if official else _made(source, settings, records)
    for reply in replies(model, questions, settings.asking(), records):
        records.add(_record(reply, settings))
    done = [question for question in questions if records.done[question.key].status == "ok"]
    if not done:
        raise DataError(f"not one of POPE's {len(questions)} questions could be asked: name the pictures' folder with "
                        f"pope.images=FOLDER")  # fmt: skip
    extras = {"pictures": answer_examples(done, records, "accuracy"), "pictures_title": "Questions and answers"}
    return Outcome(_metrics(done, ways, records, settings), extras, (verb_of(model, settings.asking()),))


def _record(reply: Reply, settings: Settings) -> SampleRecord:
    question = reply.question
    read = read_yes_no(reply.answer)
    values = {"accuracy": float(read == question.answers[0])}
    if reply.blind is not None:
        right = read_yes_no(reply.blind) == question.answers[0]
        values[f"accuracy{BLIND_SUFFIX[settings.blind]}"] = float(right)
    output = {"answer": reply.answer, "blind": reply.blind, "read": read, "label": question.answers[0]}
    return SampleRecord(question.key, prompt=settings.prompt.replace("{}", question.text), output=output, values=values)


def _metrics(
    done: Sequence[Question], ways: Mapping[str, Sequence[str]], records: Records, settings: Settings
) -> dict[str, Metric]:
    """Of each way, then over all questions with the control."""
    metrics: dict[str, Metric] = {}
    for way in WAYS:
        some = [question for question in done if way in ways[question.key]]
        if some:
            found = yes_no_metrics([_judgement(question, records) for question in some])
            metrics |= {f"{way}_{name}": metric for name, metric in found.items()}
    return metrics | means_with_control("accuracy", done, records, settings.blind, {YES: 0.5, NO: 0.5})


def _judgement(question: Question, records: Records) -> Judgement:
    return Judgement(question.picture, question.answers[0], records.done[question.key].output["read"])


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.jsonl")]):
        for way in WAYS:
            if path.stem.lower().endswith(way):
                found.setdefault(way, path)
    return found


def _official(source: Source, settings: Settings, records: Records) -> Asked:
    """The questions of the official files."""
    assert isinstance(source, AnnotationFolder)
    pictures = PictureFolder(source.folder, settings.images)
    found: list[Question] = []
    for way, path in _files(source.folder).items():
        entries = read_json_lines(path)
        if not entries:
            raise DataError(f"{path} holds no questions")
        check_entries(entries, _FIELDS, path)
        found += [_question(way, entry, pictures, path) for entry in entries]
    chosen = [found[index] for index in records.within_limit([question.key for question in found])]
    return chosen, {question.key: (question.key.partition("/")[0],) for question in chosen}


def _question(way: str, entry: Mapping[str, object], pictures: PictureFolder, path: Path) -> Question:
    label, name = str(entry["label"]).strip().lower(), str(entry["image"])
    if label not in CHOICES:
        raise DataError(f"{path}: question {entry['question_id']} has the label '{label}': expected yes or no")
    image = partial(pictures.read, [name])
    return Question(f"{way}/{entry['question_id']}", str(entry["text"]), image, name, (label,), CHOICES, label)


def _made(source: Source, settings: Settings, records: Records) -> Asked:
    """Questions about the labels of boxes."""
    samples = {sample.key: sample for sample in records.samples(source) if sample.visuals}
    probes = probes_of({key: objects_of(sample) for key, sample in samples.items()}, settings.each, records.seed)
    if not probes:
        raise DataError(
            f"{source.name} has no picture with labelled boxes of which POPE's questions could be made: expected "
            f"scenes, data with boxes, or the folder of POPE's files (..._random.json)"
        )
    questions: list[Question] = []
    ways: dict[str, tuple[str, ...]] = {}
    for key, one in probes.items():
        for name, label, counted in _asked_for(one):
            question = _about(samples[key], name, label, settings)
            questions.append(question)
            ways[question.key] = counted
    return questions, ways


def _asked_for(probes: Probes) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each object once, with the ways that it counts for: a present one for all."""
    for name in probes.present:
        yield name, YES, WAYS
    for name in dict.fromkeys(name for way in WAYS for name in probes.absent[way]):
        yield name, NO, tuple(way for way in WAYS if name in probes.absent[way])


def _about(sample: Sample, name: str, label: str, settings: Settings) -> Question:
    text = settings.question.replace("{}", with_article(name))
    return Question(f"{sample.key}#{name}", text, partial(_same, sample.image), sample.key, (label,), CHOICES, label)


def _same(image: Image) -> Image:
    return image


def tiny_data(folder: Path) -> Source:
    """Two scenes."""
    return Scenes("test", 2, SceneConfig(size=32, objects=1))
