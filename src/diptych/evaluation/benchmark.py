"""What a benchmark is: one file in `benchmarks/`, or a module of a user's own.

REQUIRES = ("score",)                              verbs, as a literal; a model without them is refused
SENTENCES = True                                   whether it scores sentences and not class names alone, as a literal
DATA = "scenes?objects=3"                          what it runs on when no data is named, as a literal
@dataclass(frozen=True) class Settings: ...        every choice that changes a number
def run(model, source, settings, records) -> Outcome
OWN_FILES = True                                   (optional) reads a folder of official files, and nothing else
def holds_files(folder) -> bool                    (optional) whether a folder holds its official files; if not, samples
TRAINS = True                                      (optional) fits something: Settings has `train`, the training data
def tiny_data(folder) -> Source                    the smallest data it runs on, for the matrix test
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from diptych.core.processor import BadSample
from diptych.core.records.results import Metric, SampleRecord, read_samples, sample_line
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.core.storage import storage_errors, write_text

PAIR_ROWS = "pairs.jsonl"
"""Where scores of pairs are kept while an evaluation runs."""


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found.

    Attributes:
        extras: what a report draws: "gallery", "confusion".
        verbs: the verbs that were used.
    """

    metrics: dict[str, Metric]
    extras: dict[str, Any] = field(default_factory=dict)
    verbs: tuple[str, ...] = ()


class BenchmarkModule(Protocol):
    """A benchmark's module."""

    REQUIRES: tuple[str, ...]
    DATA: str
    Settings: type

    def run(self, model: Any, source: Source, settings: Any, records: Records) -> Outcome:
        """Evaluates; every sample gets a record."""
        ...


class Records:
    """The per-sample lines of one evaluation, written as they come; those of an interrupted one are read back.

    Attributes:
        folder: where the lines are written; None to write nothing.
        seed: of every random choice of the benchmark.
        limit: the most samples to look at; None for all.
    """

    def __init__(
        self, folder: Path | None, identity: Mapping[str, Any], seed: int = 0, limit: int | None = None
    ) -> None:
        self.folder, self.seed, self.limit = folder, seed, limit
        self._path = folder / "samples.jsonl" if folder else None
        self.done: dict[str, SampleRecord] = {}
        if folder is not None:
            self._begin(folder, json.dumps(identity, sort_keys=True))

    def _begin(self, folder: Path, identity: str) -> None:
        """Keeps the lines of an earlier session when model, data and settings are the same; starts anew otherwise."""
        known = folder / "identity.json"
        lines: list[str] = []
        if known.is_file() and known.read_text(encoding="utf-8") == identity:
            self.done = {record.key: record for record in read_samples(folder)}
            lines = [sample_line(record) for record in self.done.values()]
        elif (rows := folder / PAIR_ROWS).is_file():
            rows.unlink()  # before the new identity stands there: scores of another model are never read back
        write_text(known, identity)
        write_text(folder / "samples.jsonl", "".join(lines))

    def add(self, *records: SampleRecord) -> None:
        """Writes records that are new.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        new = [record for record in records if record.key not in self.done]
        self.done |= {record.key: record for record in new}
        if self._path is not None and new:
            with storage_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write("".join(map(sample_line, new)))

    def samples(self, source: Source) -> Iterator[Sample]:
        """The samples in order; one that cannot be read is recorded with its reason.

        Under a limit those whose keys have the smallest hashes: data often lie sorted by class.
        """
        for index in self.within_limit(source.keys()):
            try:
                yield source[index]
            except BadSample as bad:
                self.fail(bad)

    def within_limit(self, keys: Sequence[str]) -> Sequence[int]:
        """The positions of those to look at, in order: all, or under a limit the ones with the smallest hashes."""
        if self.limit is None or self.limit >= len(keys):
            return range(len(keys))
        by_hash = sorted(range(len(keys)), key=lambda index: hash_to_int("limit", self.seed, keys[index]))
        return sorted(by_hash[: self.limit])

    def has_caption(self, sample: Sample) -> bool:
        """Whether a sample says something; one that does not is recorded with the reason."""
        if any(text.strip() for text in sample.texts):
            return True
        self.fail(BadSample(sample.key, "no caption"))
        return False

    def fail(self, bad: BadSample) -> None:
        """Records a sample that has no outcome."""
        self.add(SampleRecord(bad.key, status=bad.reason))

    def values(self, name: str) -> tuple[list[float], list[str]]:
        """Every value of a metric with its sample's key."""
        rows = [(record.values[name], record.key) for record in self.done.values() if name in record.values]
        return [value for value, _ in rows], [key for _, key in rows]
