"""What a loader did and where its time went; bad samples by reason, and when there are too many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.core.errors import DataError
from diptych.core.source import Source
from diptych.core.storage import storage_errors
from diptych.data.loading.row_filler import Bad, Filled


@dataclass
class LoaderStats:
    """Counts and seconds of what was delivered so far.

    Attributes:
        samples, batches: delivered by this process.
        read, decode, augment: seconds, summed over threads.
        wait: seconds that the consumer waited for a batch.
        bad: bad samples by reason.
    """

    samples: int = 0
    batches: int = 0
    read: float = 0.0
    decode: float = 0.0
    augment: float = 0.0
    wait: float = 0.0
    bad: dict[str, int] = field(default_factory=dict)

    @property
    def bad_total(self) -> int:
        return sum(self.bad.values())

    def add(self, parts: Sequence[Filled]) -> None:
        """Counts a delivered batch."""
        self.batches += 1
        for part in parts:
            self.samples += len(part.keys)
            self.read += part.read
            self.decode += part.decode
            self.augment += part.augment
            for one in part.bad:
                self.bad[one.reason] = self.bad.get(one.reason, 0) + 1


@dataclass(frozen=True)
class BadPolicy:
    """When bad samples stop a run, and where their keys are written.

    Attributes:
        threshold: the largest bad share of what was tried.
        log: a JSONL file that gets a line for every bad sample; None for no file.
        at_least: samples tried before the share is looked at; fewer where the whole source has fewer.
    """

    threshold: float = 0.05
    log: Path | None = None
    at_least: int = 100

    def write(self, bad: Sequence[Bad]) -> None:
        """Appends to the log.

        Raises:
            StorageError: it cannot be written.
        """
        if self.log is None or not bad:
            return
        lines = [json.dumps(vars(one), ensure_ascii=False) + "\n" for one in bad]
        with storage_errors(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write("".join(lines))

    def check(self, stats: LoaderStats, source: Source) -> None:
        """Stops a run that would train on the remains of broken data.

        Raises:
            DataError: the bad share is above the threshold.
        """
        tried = stats.samples + stats.bad_total
        if tried < min(self.at_least, len(source)) or stats.bad_total <= self.threshold * tried:
            return
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(stats.bad.items()))
        where = f"their keys are in {self.log}" if self.log else "name a log file to get their keys"
        raise DataError(
            f"{source.name}: {stats.bad_total} of {tried} samples ({stats.bad_total / tried:.1%}) could not be used, "
            f"more than the {self.threshold:.0%} allowed: {reasons}; {where}"
        )
