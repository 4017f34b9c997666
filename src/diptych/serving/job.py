"""A model asked the same about every picture: in batches, bad pictures left out and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.loading.loader import evaluation_batches
from diptych.data.pixels.images import Preprocessing
from diptych.serving.batches import Pictures, ReadyPictures

Cell = str | float | int
Row = Mapping[str, Cell]

Ask = Callable[[Sequence[str], Sequence[Image]], Sequence[Row]]
"""Keys and pictures -> one row each."""


@dataclass(frozen=True)
class Skipped:
    """What was left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Answered:
    """One picture and what was said of it.

    Attributes:
        thumbnail: a `data:` address; "" where none was asked for.
    """

    key: str
    row: Row
    thumbnail: str = ""


@dataclass
class Outcome:
    """What came of a job.

    Attributes:
        total: pictures there are.
        seconds: from the first picture that was read to the last answer.
        model_seconds: of these, in which the model was at work; the rest waits for pictures.
        stopped: whether the user interrupted it.
    """

    total: int
    answered: list[Answered] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    seconds: float = 0.0
    model_seconds: float = 0.0
    stopped: bool = False


@dataclass(frozen=True)
class JobOptions:
    """How a job goes about it.

    Attributes:
        batch_size: pictures that the model sees at once.
        threads: that read, decode and resize.
        thumbnails: whether they are made.
    """

    batch_size: int = 64
    threads: int = 2
    thumbnails: bool = False


def ask_all(
    model: Predictor, source: Source, ask: Ask, options: JobOptions, advance: Callable[[int], None] = lambda _: None
) -> Outcome:
    """Asks about every picture, in their order.

    An interrupt ends the job and not what was answered until then.

    Args:
        advance: is told how many pictures more are done with, answered or not.
    """
    done = Outcome(len(source))
    ready = ReadyPictures(model.preprocessing if isinstance(model, Preprocessing) else None, options.thumbnails)
    batches = evaluation_batches(source, ready, options.batch_size, threads=options.threads, bad_threshold=1.0)
    started, seen = perf_counter(), 0
    try:
        for some in batches:
            begun = perf_counter()
            _answer(done, ask, some)
            done.model_seconds += perf_counter() - begun
            advance(len(done.answered) + len(done.skipped) + len(batches.bad) - seen)
            seen = len(done.answered) + len(done.skipped) + len(batches.bad)
    except KeyboardInterrupt:
        done.stopped = True
    done.seconds = perf_counter() - started
    unread = [Skipped(bad.key, f"{bad.reason} ({bad.detail})" if bad.detail else bad.reason) for bad in batches.bad]
    done.skipped = sorted([*problems_of(source), *unread, *done.skipped], key=lambda one: one.key)
    return done


def demand_answers(done: Outcome, model: Predictor, source: Source) -> None:
    """Looks whether anything came of a job that was not interrupted.

    Raises:
        DataError: not one picture could be answered; the reasons are named.
    """
    if not done.answered and not done.stopped:
        raise DataError(f"{model.name} could not be asked about a single picture of {source.name}: {_first(done)}")


def _answer(done: Outcome, ask: Ask, some: Pictures) -> None:
    """A whole batch at once; one by one only where the model refuses one of its pictures."""
    try:
        rows = ask(some.keys, some.images)
    except (BadSample, TextTooLong) as error:
        if len(some.keys) == 1:
            done.skipped.append(Skipped(some.keys[0], str(error)))
            return
        for key, image, small in zip(some.keys, some.images, some.thumbnails, strict=True):
            _answer(done, ask, Pictures((key,), (image,), (small,)))
        return
    done.answered += [Answered(*one) for one in zip(some.keys, rows, some.thumbnails, strict=True)]


def problems_of(source: Source) -> list[Skipped]:
    """What the source noticed when it was opened."""
    problems: Mapping[str, Sequence[str]] = getattr(source, "problems", {})
    return [Skipped(key, reason) for reason, keys in problems.items() for key in keys]


def _first(done: Outcome) -> str:
    first = {one.reason: one.key for one in reversed(done.skipped)}
    reasons = [f"{key}: {reason}" for reason, key in list(first.items())[-3:]]
    more = len(done.skipped) - len(reasons)
    return "; ".join(reversed(reasons)) + (f"; and {more} more" if more else "")
