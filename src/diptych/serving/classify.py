"""Which of some labels each picture shows.

As CLIP does it: a label's prompts are embedded, averaged and normalised once, and a picture is of the label whose
vector is nearest. A model that only scores gets the mean score over the prompts; what it was trained to tell apart by
name, it is asked by name.

N pictures, P prompts, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.capabilities.encodings import class_vectors, scores_by_vectors
from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable, Verb
from diptych.core.errors import ConfigError, DataError
from diptych.core.visual import Image
from diptych.serving.job import Ask, Cell, Row
from diptych.serving.refusal import require_comparable, require_verb


@dataclass(frozen=True)
class Labels:
    """What pictures are told apart by.

    Attributes:
        names: two or more.
        prompts: templates with {} for a name.
        top: how many of the best labels are given for each picture.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...] = ("a photo of a {}",)
    top: int = 3

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise ConfigError(f"{len(self.names)} label(s): to tell pictures apart takes two or more")
        if again := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ConfigError(f"the label '{again[0]}' is given twice")
        if bad := [prompt for prompt in self.prompts if "{}" not in prompt]:
            raise ConfigError(f"the template '{bad[0]}' has no {{}} for the label")
        if self.top < 1:
            raise ConfigError(f"top {self.top} must be at least 1")


def read_labels(given: Sequence[str]) -> tuple[str, ...]:
    """Labels as they are given, or, of a single path, one a line of the file.

    Raises:
        DataError: the file is not text, or has no labels.
    """
    path = Path(given[0]) if len(given) == 1 else None
    if path is None or not path.is_file():
        return tuple(given)
    try:
        found = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a file of labels, one a line of UTF-8 text: {error}") from error
    if not found:
        raise DataError(f"{path} holds no labels: write one a line")
    return found


def labels_for(model: Predictor, given: Sequence[str], prompts: Sequence[str] | None = None, top: int = 3) -> Labels:
    """The labels and prompts to ask a model with.

    Args:
        given: labels, or a file of them; none for those that the model was trained on.
        prompts: None for what suits the model.

    Raises:
        ConfigError: no labels, for a model that has none of its own.
    """
    own = tuple(str(name) for name in getattr(model, "classes", ()))
    if not given and not own:
        raise ConfigError(f"{model.name} has no classes of its own: name what to tell apart, --labels cat dog")
    usual = ("a photo of a {}",) if model.READS_TEXT and given else ("{}",)
    return Labels(read_labels(given) if given else own, tuple(prompts or usual), top)


def classifier(model: Predictor, labels: Labels) -> Ask:
    """Asks for the labels of pictures: the best first, each with its score.

    Raises:
        MissingVerb: the model does not score.
        NotComparable: its score does not compare the texts of one picture.
    """
    require_verb(model, Verb.SCORE)
    require_comparable(model, Comparable.TEXTS, "labels are the texts of one picture")
    score = _score(model, labels)

    def ask(keys: Sequence[str], images: Sequence[Image]) -> list[Row]:
        scores_NL = checked(score(images), model, keys[0]).float()
        values_NK, places_NK = scores_NL.topk(min(labels.top, len(labels.names)), dim=1)
        return [
            _row(labels.names, values, places)
            for values, places in zip(values_NK.tolist(), places_NK.tolist(), strict=True)
        ]

    return ask


def _score(model: Any, labels: Labels) -> Callable[[Sequence[Image]], Tensor]:
    if scores_by_vectors(model):
        vectors_LD = class_vectors(model, labels.names, labels.prompts)

        def by_vectors(images: Sequence[Image]) -> Tensor:
            scores_NL: Tensor = model.encode_image(list(images)) @ vectors_LD.T
            return scores_NL

        return by_vectors
    texts = [prompt.format(name) for prompt in labels.prompts for name in labels.names]

    def by_texts(images: Sequence[Image]) -> Tensor:
        scores_NPL: Tensor = model.score(list(images), texts).reshape(len(images), len(labels.prompts), -1)
        return scores_NPL.mean(1)

    return by_texts


def _row(names: Sequence[str], values: Sequence[float], places: Sequence[int]) -> Row:
    row: dict[str, Cell] = {}
    for rank, (value, place) in enumerate(zip(values, places, strict=True), 1):
        end = "" if rank == 1 else f"_{rank}"
        row |= {f"label{end}": names[place], f"score{end}": round(value, 6)}
    return row
