"""What adaptation gained and lost: an adapted model beside its base, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diptych.capabilities.predictor import Predictor
from diptych.commands.compare import print_table
from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.data.open import open_source
from diptych.data.split_names import splits_of
from diptych.evaluation.compare import Comparison, compare
from diptych.evaluation.runner import evaluate

_OF_OWN_CLASSES = ("linear_probe",)
_OF_CLASSES = ("cocoop",)


def check_sets(references: Sequence[str], method: str) -> None:
    """Opens the other sets, so that a run fails before it trains.

    Raises:
        DataError: no such data.
        ConfigError: a method that cannot answer for them.
    """
    if references and method in _OF_OWN_CLASSES:
        raise ConfigError(f"{method} knows its own classes only and no other data: leave forgetting empty")
    for reference in references:
        if method in _OF_CLASSES and not has_classes(other_set(reference)):
            raise ConfigError(
                f"{method} compares the texts of a picture, which retrieval is not: {reference} has no classes"
            )


def other_set(reference: str) -> Source:
    """The data's test split, or val, where names tell splits apart; all of it otherwise."""
    where = Path(reference.partition("?")[0])
    known = splits_of([str(path) for path in where.rglob("*.tar")]) if where.is_dir() else []
    split = next((name for name in ("test", "val") if name in known), "all")
    return open_source(reference, "test" if reference.startswith(("scenes", "hf:")) else split)


def has_classes(source: Source, most: int = 20) -> bool:
    """Whether its samples are labelled, by the first of them."""
    return all(source[index].meta.get("class") is not None for index in range(min(len(source), most)))


def report_change(
    base: Predictor, model: Predictor, data: Source | str, templates: tuple[str, str], places: tuple[Path, Path]
) -> list[Comparison]:
    """Evaluates both models and prints how they differ: zero-shot classification, or retrieval of captions.

    Args:
        templates: how the base and the adapted model are told a class.
        places: where both evaluations are kept.
    """
    for one, template, place in zip((base, model), templates, places, strict=True):
        evaluated(one, data, template, place)
    found = compare(places, settings_alike=False)
    print_table(found)
    return found


def evaluated(model: Predictor, data: Source | str, template: str, folder: Path, limit: int | None = None) -> None:
    """Writes the result of the benchmark that fits the data into a folder."""
    source = other_set(data) if isinstance(data, str) else data
    benchmark = "zero_shot_classification" if has_classes(source) else "retrieval"
    settings = {benchmark: {"templates": template}} if benchmark != "retrieval" else {}
    evaluate(model, [benchmark], source, folder=folder, settings=settings, limit=limit)
